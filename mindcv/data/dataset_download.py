"""CIFAR and MNIST from their publishers, where a folder does not hold them yet."""

import os
import shutil
from pathlib import Path

from ..errors import DataError
from ..process.archives import DownLoad, DownloadError, get_default_download_root
from ..process.download import Failure, locked
from ..process.files import writing
from .samples.arrays import holds_mnist

_MNIST = "https://ossci-datasets.s3.amazonaws.com/mnist/"  # a mirror: the author's site is closed

__all__ = ["Cifar100Download", "Cifar10Download", "MnistDownload", "get_dataset_download_root"]


def get_dataset_download_root() -> str:
    return os.path.join(get_default_download_root(), "datasets")


class _DatasetDownload(DownLoad):
    """Downloads a dataset into a folder, unless its files are there.

    Attributes:
        root: folder of the download; default: `get_dataset_download_root`/<name>.
        path: folder of the files.
    """

    name: str
    base_dir = ""  # of the files below the root
    files: tuple[str, ...] = ()  # that reading needs
    resources: tuple = ()  # files of the archives
    url: tuple[str, str]  # address and md5 of the archive, both as the publisher gives them

    def __init__(self, root: str | None = None):
        self.root = os.path.join(get_dataset_download_root(), self.name) if root is None else root
        self.path = os.path.join(self.root, self.base_dir) if self.base_dir else self.root

    @property
    def archives(self) -> tuple[tuple[str, str], ...]:
        """Address and md5 of each archive."""
        return (self.url,)

    def is_there(self) -> bool:
        folders = (self.root, self.path)
        return any(
            all(os.path.isfile(f"{folder}/{file}") for file in self.files) for folder in folders
        )

    def download(self) -> None:
        """Fetch and unpack what is missing; of several processes one does, and the others wait.

        An archive that was put into the folder by hand is unpacked and removed.

        Raises:
            DownloadError: an archive cannot be fetched, or has another hash.
            DataError: the folder cannot be written.
        """
        # Beside an archive another process may be at work, unless this folder is only read.
        left = any(os.path.lexists(self._archive(url)) for url, _ in self.archives)
        if self.is_there() and not (left and os.access(self.root, os.W_OK)):
            return
        try:
            with writing(self.root, DataError):
                os.makedirs(self.root, exist_ok=True)
                with locked(Path(self.root, f".{self.name}"), self.archives[0][0]):
                    if not self.is_there():
                        self._unpack_archives()
        except Failure as failure:
            raise DownloadError(f"{self.name} cannot be fetched: {failure.reason}") from None

    def _archive(self, url: str) -> str:
        return os.path.join(self.root, os.path.basename(url))

    def _unpack_archives(self) -> None:
        """Unpack into a folder of its own, so that each file appears in its place complete."""
        unfinished = Path(self.root, f".{self.name}.unfinished")
        try:
            for url, md5 in self.archives:
                shutil.rmtree(unfinished, ignore_errors=True)  # left by a process that was killed
                self.download_and_extract_archive(url, self.root, str(unfinished), md5=md5)
                found = [path for path in unfinished.rglob("*") if path.is_file()]
                # Last those that `is_there` looks for.
                for path in sorted(found, key=lambda path: path.name in self.files):
                    place = self.root / path.relative_to(unfinished)
                    place.parent.mkdir(parents=True, exist_ok=True)
                    os.replace(path, place)
                os.remove(self._archive(url))
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


class MnistDownload(_DatasetDownload):
    """The four files of MNIST, from the mirror that torchvision uses too."""

    name = "mnist"
    url_path = _MNIST
    resources = (
        ("train-images-idx3-ubyte.gz", "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
        ("train-labels-idx1-ubyte.gz", "d53e105ee54ea40749a09fcbcd1e9432"),
        ("t10k-images-idx3-ubyte.gz", "9fb629c4189551a2d022fa330f9573f3"),
        ("t10k-labels-idx1-ubyte.gz", "ec29112dd5afa0611ce80d1b7f02629c"),
    )

    @property
    def archives(self) -> tuple[tuple[str, str], ...]:
        return tuple((self.url_path + file, md5) for file, md5 in self.resources)

    def is_there(self) -> bool:
        return holds_mnist(self.root)


class Cifar10Download(_DatasetDownload):
    """The binary version of CIFAR-10."""

    name = "cifar10"
    base_dir = "cifar-10-batches-bin"
    url = (
        "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        "c32a1d4ab5d03f1284b67883e8d87530",
    )
    files = (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin")
    resources = (*files, "batches.meta.txt")


class Cifar100Download(_DatasetDownload):
    """The binary version of CIFAR-100."""

    name = "cifar100"
    base_dir = "cifar-100-binary"
    url = (
        "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
        "03b5dce01913d631647c71ecec9e9cb8",
    )
    files = ("train.bin", "test.bin")
    resources = (*files, "fine_label_names.txt", "coarse_label_names.txt")
