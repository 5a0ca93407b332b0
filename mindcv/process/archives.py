"""Download and unpack archives, as MindCV's scripts do; over verified https only."""

import bz2
import gzip
import hashlib
import os
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from ..errors import DataError
from .download import Failure, download
from .files import replacing

_UNPACKERS = {".gz": gzip.open, ".bz2": bz2.open}
_CONTAINERS = (".zip", ".tar")
# Archive and compression that the end of a name stands for.
_ENDINGS = (
    {ending: (ending, None) for ending in _CONTAINERS}
    | {ending: (None, ending) for ending in _UNPACKERS}
    | {".tgz": (".tar", ".gz"), ".tbz": (".tar", ".bz2"), ".tbz2": (".tar", ".bz2")}
)
_root = os.path.join(os.path.expanduser("~"), ".mindspore")


class DownloadError(DataError, OSError):
    """A file cannot be fetched; an OSError too, as in MindCV."""


def get_default_download_root() -> str:
    """Return the folder above the datasets; published weights are in `cache_folder`."""
    return _root


def set_default_download_root(path: str) -> None:
    global _root
    _root = path


def detect_file_type(filename: str) -> tuple[str, str | None, str | None]:
    """Return (suffix, archive, compression) of a name: x.tar.gz is (.tar.gz, .tar, .gz).

    Raises:
        RuntimeError: the name ends in no suffix of an archive or of a compressed file.
    """
    stem, ending = os.path.splitext(os.path.basename(filename))
    if ending not in _ENDINGS:
        raise RuntimeError(
            f"{filename} is no archive or compressed file: expected {', '.join(_ENDINGS)}"
        )
    archive, compression = _ENDINGS[ending]
    inner = os.path.splitext(stem)[1]
    if archive is None and inner in _CONTAINERS:
        return inner + ending, inner, compression
    return ending, archive, compression


_Unsafe = getattr(tarfile, "FilterError", ValueError)


def _safe_members(archive: tarfile.TarFile) -> list[tarfile.TarInfo]:
    """Return the members, for Pythons before 3.10.12 and 3.11.4, which have no filter of their own.

    Links are refused, so that no name can lead elsewhere than it says.
    """
    members = archive.getmembers()
    for member in members:
        if not (member.isfile() or member.isdir()):
            raise _Unsafe(f"{member.name!r} is a link or device, which Python 3.11.4 could check")
        if os.path.isabs(member.name) or ".." in member.name.split("/"):
            raise _Unsafe(f"{member.name!r} would be outside the destination")
        member.mode = 0o755 if member.isdir() else 0o644
    return members


class DownLoad:
    """Downloads a file once, and unpacks it."""

    @staticmethod
    def calculate_md5(file_path: str, chunk_size: int = 1024 * 1024) -> str:
        digest = hashlib.md5(usedforsecurity=False)
        with open(file_path, "rb") as file:
            while block := file.read(chunk_size):
                digest.update(block)
        return digest.hexdigest()

    def check_md5(self, file_path: str, md5: str | None = None) -> bool:
        """Return whether a file has a hash, which may be written in either case."""
        return md5 is not None and md5.lower() == self.calculate_md5(file_path)

    @staticmethod
    def extract_tar(
        from_path: str, to_path: str | None = None, compression: str | None = None
    ) -> None:
        """Unpack a tar file; its content tells how it is compressed.

        Raises:
            DataError: a member would leave the folder, or is neither a file, folder nor safe link.
        """
        with tarfile.open(from_path) as archive:
            try:
                if hasattr(tarfile, "data_filter"):
                    archive.extractall(to_path or ".", filter="data")
                else:
                    archive.extractall(to_path or ".", _safe_members(archive))
            except _Unsafe as error:
                raise DataError(f"{from_path} is not safe to unpack: {error}") from None

    @staticmethod
    def extract_zip(
        from_path: str, to_path: str | None = None, compression: str | None = None
    ) -> None:
        """Unpack a zip file; no member can leave the folder (Python's `zipfile` sees to that)."""
        with zipfile.ZipFile(from_path) as archive:
            archive.extractall(to_path)

    def extract_archive(self, from_path: str, to_path: str | None = None) -> str:
        """Unpack an archive into a folder, or a compressed file beside it; return the path.

        Raises:
            RuntimeError: it is neither, see `detect_file_type`.
        """
        suffix, archive, compression = detect_file_type(from_path)
        if archive:
            to_path = to_path or os.path.dirname(from_path) or "."
            unpack = self.extract_zip if archive == ".zip" else self.extract_tar
            unpack(from_path, to_path, compression)
            return to_path
        to_path = from_path.removesuffix(suffix)
        with replacing(Path(to_path)) as unfinished, open(unfinished, "wb") as target:
            with _UNPACKERS[compression](from_path, "rb") as source:
                shutil.copyfileobj(source, target)
        return to_path

    def download_file(self, url: str, file_path: str, chunk_size: int = 1024) -> None:
        """Download a file completely; a file that is there is replaced at the end or kept.

        It comes in chunks of our own size.

        Raises:
            DownloadError: the address is not https, or the file cannot be fetched.
        """
        self._fetch(url, Path(file_path), None)

    def download_url(
        self,
        url: str,
        path: str | None = None,
        filename: str | None = None,
        md5: str | None = None,
    ) -> None:
        """Download into a folder, unless the file is there with the given hash.

        A file with another hash is kept until the right one has arrived, which replaces it.

        Raises:
            DownloadError: it cannot be fetched, or has another hash.
        """
        folder = Path(path or get_default_download_root()).expanduser()
        target = folder / (filename or os.path.basename(url))

        def fault_of(file: Path) -> str | None:
            found = md5 and self.calculate_md5(file)
            return f"its md5 is {found}, not {md5}" if found and found != md5.lower() else None

        self._fetch(url, target, fault_of, resumes=md5 is not None)

    def download_and_extract_archive(
        self,
        url: str,
        download_path: str | None = None,
        extract_path: str | None = None,
        filename: str | None = None,
        md5: str | None = None,
        remove_finished: bool = False,
    ) -> None:
        """Download an archive and unpack it, by default beside it."""
        folder = os.path.expanduser(download_path or get_default_download_root())
        filename = filename or os.path.basename(url)
        self.download_url(url, folder, filename, md5)
        self.extract_archive(os.path.join(folder, filename), extract_path)
        if remove_finished:
            os.remove(os.path.join(folder, filename))

    @staticmethod
    def _fetch(
        url: str,
        target: Path,
        fault_of: Callable[[Path], str | None] | None,
        resumes: bool = False,
    ) -> None:
        """Download unless the target has no fault; without `fault_of`, in any case."""

        def is_there(path: Path) -> bool:
            return fault_of is not None and path.is_file() and fault_of(path) is None

        try:
            download(
                url, target, fault_of or (lambda path: None), resumes=resumes, is_there=is_there
            )
        except Failure as failure:
            fault = fault_of(target) if fault_of and target.is_file() else None
            other = f"{target} is another file, {fault}; " if fault else ""
            raise DownloadError(
                f"{other}{url} cannot be fetched: {failure.reason}; fetch it by other means and "
                f"put it at {target}"
            ) from None
