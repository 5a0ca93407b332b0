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

_ALIASES = {
    ".tbz": (".tar", ".bz2"),
    ".tbz2": (".tar", ".bz2"),
    ".tgz": (".tar", ".gz"),
}
_ARCHIVES, _COMPRESSIONS = (".tar", ".zip"), {".bz2": bz2.open, ".gz": gzip.open}
_root = os.path.join(os.path.expanduser("~"), ".mindspore")


class DownloadError(DataError, OSError):
    """A file cannot be fetched; an OSError too, as in MindCV."""


def get_default_download_root() -> str:
    return _root


def set_default_download_root(path: str) -> None:
    global _root
    _root = path


def detect_file_type(filename: str) -> tuple[str, str | None, str | None]:
    """Return (suffix, archive, compression) of a name: x.tar.gz is (.tar.gz, .tar, .gz).

    Raises:
        RuntimeError: the name ends in no suffix of an archive or of a compressed file.
    """
    suffixes = Path(filename).suffixes
    last = suffixes[-1] if suffixes else ""
    if last in _ALIASES:
        return last, *_ALIASES[last]
    if last in _ARCHIVES:
        return last, last, None
    if last not in _COMPRESSIONS:
        known = ", ".join((*_ALIASES, *_ARCHIVES, *_COMPRESSIONS))
        raise RuntimeError(f"{filename} is no archive or compressed file: expected {known}")
    before = suffixes[-2] if len(suffixes) > 1 else ""
    return (before + last, before, last) if before in _ARCHIVES else (last, None, last)


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
        return md5 == self.calculate_md5(file_path)

    @staticmethod
    def extract_tar(
        from_path: str, to_path: str | None = None, compression: str | None = None
    ) -> None:
        """Unpack a tar file; DataError if a member would leave the folder."""
        with tarfile.open(from_path, f"r:{compression[1:]}" if compression else "r") as archive:
            try:
                archive.extractall(to_path or ".", filter="data")
            except tarfile.FilterError as error:
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
            with _COMPRESSIONS[compression](from_path, "rb") as source:
                shutil.copyfileobj(source, target)
        return to_path

    def download_file(self, url: str, file_path: str, chunk_size: int = 1024) -> None:
        """Download a file completely, or leave no file; it comes in chunks of our own size.

        Raises:
            DownloadError: the address is not https, or the file cannot be fetched.
        """
        self._fetch(url, Path(file_path), lambda path: None)

    def download_url(
        self,
        url: str,
        path: str | None = None,
        filename: str | None = None,
        md5: str | None = None,
    ) -> None:
        """Download into a folder, unless the file is there with the given hash.

        A file with another hash is replaced.

        Raises:
            DownloadError: it cannot be fetched, or has another hash.
        """
        folder = Path(path or get_default_download_root()).expanduser()
        target = folder / (filename or os.path.basename(url))

        def fault_of(file: Path) -> str | None:
            is_right = md5 is None or self.check_md5(file, md5)
            return None if is_right else f"its md5 is {self.calculate_md5(file)}, not {md5}"

        if not (target.is_file() and fault_of(target) is None):
            self._fetch(url, target, fault_of)

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
    def _fetch(url: str, target: Path, fault_of: Callable[[Path], str | None]) -> None:
        target.unlink(missing_ok=True)
        try:
            download(url, target, fault_of, resumes=False)
        except Failure as failure:
            raise DownloadError(
                f"{url} cannot be fetched: {failure.reason}; fetch it by other means and put it at "
                f"{target}"
            ) from None
