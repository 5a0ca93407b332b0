"""Examine image files in several processes: what each is, and what training makes of it."""

import hashlib
import io
import os
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from PIL import Image as PillowImage

from ...data.image_files import FORMATS, decodable, decode
from ...data.samples import ImageError
from ...data.samples.files import read_file
from ...process.cpu import available_cores, worker_pool
from .listing import Listing

OK, CONVERTED, BAD = "ok", "converted", "bad"
SUFFIXES = {
    "JPEG": (".jpg", ".jpeg"),
    "MPO": (".jpg", ".jpeg"),  # a JPEG that holds further ones, as some cameras write
    "PNG": (".png",),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm"),
}
_GREY = ("1", "L", "LA", "I", "I;16", "I;16B", "I;16L", "F")
_ORIENTATION = 0x112
_TINY = 32  # pixels; images with a shorter side below this are odd
_EXTREME_ASPECT = 5
_CHUNK = 32  # files handed to a process at a time


class Image(NamedTuple):
    """The facts about an image file.

    Attributes:
        bytes: size of the file.
        width, height: pixels; 0: unknown.
        mode: Pillow's; empty: unknown.
        format: of the content, whatever the suffix says; empty: unknown.
        sha256: of the file, 32 bytes; empty: the file cannot be read.
        pixels: SHA-256 of the decoded RGB pixels and their size, if pixels are hashed.
        verdict: `OK`; `CONVERTED`: training reads it through Pillow, as 8-bit RGB; `BAD`: cannot be
            decoded.
        reason: why it is converted or bad.
        notes: oddities.
    """

    bytes: int
    width: int = 0
    height: int = 0
    mode: str = ""
    format: str = ""
    sha256: bytes = b""
    pixels: bytes = b""
    verdict: str = OK
    reason: str = ""
    notes: tuple[str, ...] = ()


class ImageTable(Sequence):
    """A sequence of `Image` that takes 60 bytes for each, or 92 with hashes of the pixels.

    Attributes:
        columns: (n,) with `bytes`, `width`, `height`, the hashes as four uint64 (zeros: no hash),
            and `kind`.
        kinds: the other facts, indexed by `kind`; their sizes and hashes mean nothing.
    """

    def __init__(self, images: int, with_pixels: bool = False):
        self.with_pixels = with_pixels
        self.kinds: list[Image] = []
        self._numbers = ("bytes", "width", "height")
        self._digests = ("sha256", "pixels") if with_pixels else ("sha256",)
        columns = [(name, np.int64) for name in self._numbers]
        columns += [(name, np.uint64, 4) for name in self._digests]
        self.columns = np.zeros(images, [*columns, ("kind", np.int32)])
        self._kind_numbers: dict[Image, int] = {}

    def __len__(self) -> int:
        return len(self.columns)

    def __getitem__(self, index: int) -> Image:
        row = self.columns[index]
        digests = {name: row[name].tobytes() for name in self._digests if row[name].any()}
        numbers = {name: int(row[name]) for name in self._numbers}
        return self.kinds[row["kind"]]._replace(**numbers, **digests)

    def __setitem__(self, index: int, image: Image) -> None:
        row = self.columns[index]
        for name in self._numbers:
            row[name] = getattr(image, name)
        for name in self._digests:
            row[name] = np.frombuffer(getattr(image, name) or bytes(32), np.uint64)
        kind = image._replace(bytes=0, width=0, height=0, sha256=b"", pixels=b"")
        row["kind"] = self._kind_numbers.setdefault(kind, len(self.kinds))
        if row["kind"] == len(self.kinds):
            self.kinds.append(kind)

    def select(self, test: Callable[[Image], bool]) -> np.ndarray:
        """Return a mask of the images whose kind passes a test, (n,) bool."""
        return np.array([test(kind) for kind in self.kinds], bool)[self.columns["kind"]]


def scan(
    listing: Listing,
    workers: int | None = None,
    with_pixels: bool = False,
    step: Callable[[int], Any] | None = None,
) -> ImageTable:
    """Examine each image of a listing; the table has the order of `listing.paths()`.

    The worker processes are spawned, so a calling script needs `if __name__ == "__main__":`.

    Args:
        workers: processes; None: one per available core.
        with_pixels: also hash the decoded pixels.
        step: called with the number of images done since the last call.
    """
    most_of_use = (len(listing) + _CHUNK - 1) // _CHUNK
    workers = max(1, min(workers or len(available_cores()), most_of_use))
    table, done = ImageTable(len(listing), with_pixels), 0
    for images in _examined(listing.paths(), workers, with_pixels):
        for image in images:
            table[done] = image
            done += 1
        if step:
            step(len(images))
    return table


def _examined(paths: Iterator[str], workers: int, with_pixels: bool) -> Iterator[list[Image]]:
    """Yield the results in order; if a process dies, its files are tried one by one."""
    chunks = iter(lambda: list(islice(paths, _CHUNK)), [])
    while unsure := (yield from _in_pool(chunks, workers, 4 * workers, with_pixels)):
        alone = iter([[path] for chunk in unsure for path in chunk])
        while (yield from _in_pool(alone, 1, 1, with_pixels)):
            yield [Image(0, verdict=BAD, reason="decoding it ends the whole process")]


def _in_pool(chunks: Iterator[list[str]], workers: int, most_pending: int, with_pixels: bool):
    """Yield the images of each chunk; return the chunks that are lost if a process dies."""
    pending = deque()
    try:
        with worker_pool(workers, _prepare) as submit:
            while True:
                for chunk in islice(chunks, most_pending - len(pending)):
                    pending.append((chunk, None))  # kept even if the pool is broken already
                    pending[-1] = (chunk, submit(_examine_chunk, chunk, with_pixels))
                if not pending:
                    return []
                images = pending[0][1].result()
                pending.popleft()
                yield images
    except BrokenProcessPool:
        return [chunk for chunk, _ in pending]


def _prepare() -> None:
    warnings.simplefilter("ignore")  # Pillow warns of odd metadata
    PillowImage.MAX_IMAGE_PIXELS = None  # image_files has a limit; here the size is reported
    PillowImage.core.set_blocks_max(8)  # reuse memory between images, 128 MB at most


def _examine_chunk(paths: list[str], with_pixels: bool) -> list[Image]:
    return [examine(path, with_pixels) for path in paths]


def examine(path: str, with_pixels: bool = False) -> Image:
    """Read, hash and decode an image file.

    It is bad if training would find it so (`image_files.decodable`) or its pixels cannot be decoded
    to the end.
    """
    try:
        data = read_file(os.fsencode(path))
    except ImageError as error:
        size = os.path.getsize(path) if os.path.isfile(path) else 0
        return Image(size, verdict=BAD, reason=_dead_link(path) or str(error))
    facts = {"bytes": data.size, "sha256": hashlib.sha256(data).digest()}
    try:
        image = _open(data)
        if image is not None:
            facts |= {"width": image.width, "height": image.height}
            facts |= {"mode": image.mode, "format": image.format}
            facts["notes"] = tuple(_notes(path, image))
        usable = decodable(data)
        if usable is not data:
            facts |= {"verdict": CONVERTED, "reason": _why_converted(image)}
            pixels = decode(usable) if with_pixels else None
        else:
            pixels = _load(image)
        if with_pixels:
            digest = hashlib.sha256(b"%d x %d" % pixels.size)
            digest.update(pixels.convert("RGB").tobytes())
            facts["pixels"] = digest.digest()
    except ImageError as error:
        facts |= {"verdict": BAD, "reason": str(error)}
    return Image(**facts)


def _dead_link(path: str) -> str:
    if os.path.islink(path):
        try:
            os.stat(path)
        except FileNotFoundError:
            target = os.readlink(path).encode("utf-8", "backslashreplace").decode("utf-8")
            return f"a link that leads nowhere, to {target!r}"
        except OSError:  # a loop, which read_file reports
            pass
    return ""


def _open(data: np.ndarray) -> PillowImage.Image | None:
    """Read the header; None: Pillow does not understand it."""
    try:
        return PillowImage.open(io.BytesIO(data), formats=FORMATS)
    except Exception:  # Pillow raises nearly anything on damaged bytes
        return None


def _load(image: PillowImage.Image | None) -> PillowImage.Image:
    if image is None:
        raise ImageError("damaged image: its header cannot be read")
    try:
        image.load()
    except Exception as error:  # as above
        raise ImageError(f"damaged image: {error or type(error).__name__}") from None
    return image


def _why_converted(image: PillowImage.Image | None) -> str:
    if image is None:
        return "an unusual file"
    try:
        is_animated = getattr(image, "is_animated", False)
    except Exception:  # the first frame is intact, the second may be damaged
        is_animated = True
    first = ", its first frame" if is_animated else ""
    if image.format in ("JPEG", "PNG", "BMP") and image.mode in ("L", "RGB", "LA", "RGBA"):
        return f"{image.format} of an unusual structure{first}"
    return f"{image.format} of mode {image.mode}{first}"


def _notes(path: str, image: PillowImage.Image) -> Iterator[str]:
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in SUFFIXES[image.format]:
        yield f"{image.format} named {suffix}"
    orientation = None
    # Without this check, Pillow decodes a PNG to find EXIF behind its pixels.
    if "exif" in image.info or image.format in ("TIFF", "WEBP"):
        with suppress(Exception):  # damaged EXIF does no harm
            orientation = image.getexif().get(_ORIENTATION)
    if orientation in range(2, 9):
        yield f"EXIF orientation {orientation}"
    if image.mode in _GREY:
        yield "grey"
    if image.mode == "CMYK":
        yield "CMYK"
    shorter, longer = sorted(image.size)
    if shorter < _TINY:
        yield f"smaller than {_TINY} pixels"
    if longer > _EXTREME_ASPECT * shorter:
        yield f"longer than {_EXTREME_ASPECT} times its width or height"
