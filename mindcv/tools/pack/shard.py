"""A shard: read, check and write its images, read them back, then move the file into place."""

import io
import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from mindspore.mindrecord import FileWriter
from PIL import Image

from ...data.image_files import check_to_the_end, decode
from ...data.samples import ImageError
from ...data.samples.files import read_file
from ...data.samples.mindrecord import MindRecordFile
from ...data.samples.packed_set import WORK, ShardFile, write_json
from ...errors import DataError, first_line
from ...process.files import sha256_of_file
from .folders import SourceSplit

_SCHEMA = {"image": {"type": "bytes"}, "label": {"type": "int32"}, "name": {"type": "bytes"}}
_PAGE_BYTES, _MOST_PAGE_BYTES = 4 << 20, 256 << 20
_WRITE_BYTES = 4 << 20  # handed to MindSpore at a time


@dataclass(frozen=True)
class ShardTask:
    """A shard to make: `images` becomes `<out>/<split>/<number>.mindrecord`."""

    out: Path
    images: SourceSplit
    number: int
    cap: int | None  # see `capped`; None: keep the bytes of the images
    quality: int
    skip_bad: bool  # skip bad images instead of refusing the shard
    header_bytes: int = 0  # of the MindRecord file, see `with_common_layout`
    page_bytes: int = 0

    @property
    def split(self) -> str:
        return self.images.name

    @property
    def file(self) -> str:
        return f"{self.split}/{self.number:05d}.mindrecord"

    @property
    def record(self) -> Path:
        """The file that marks the shard as finished."""
        return self.work_path("json")

    def work_path(self, suffix: str) -> Path:
        return self.out / WORK / f"{self.split}-{self.number:05d}.{suffix}"


class ShardResult(NamedTuple):
    split: str
    shard: ShardFile | None  # None: refused because of bad images, or no image is left
    bad: list[tuple[str, str]]  # path, starting with the split, and reason of each bad image


def with_common_layout(tasks: list[ShardTask]) -> list[ShardTask]:
    """Give all files the same header and page sizes: MindSpore refuses to mix them."""
    sizes = [task.images.sizes for task in tasks]
    # A page holds the largest image, but is not much larger than all images together.
    whole = max(int(of_task.sum()) + 256 * len(of_task) for of_task in sizes)
    needed = max(min(whole, _PAGE_BYTES), max(int(of_task.max()) for of_task in sizes))
    page = min(-(-needed // 4096) * 4096 + (64 << 10), _MOST_PAGE_BYTES)
    # The header takes about 200 bytes for each page. Pages are at least half full, since an image
    # that does not fit begins a new one.
    header = (64 << 10) + 1024 * (2 * whole // page)
    return [replace(task, header_bytes=header, page_bytes=page) for task in tasks]


def finished_shard(task: ShardTask) -> ShardResult | None:
    """Return the result of an earlier run; None: its record is missing or damaged."""
    try:
        contents = json.loads(task.record.read_bytes())
        shard = contents["shard"] and ShardFile(**contents["shard"])
        bad = [tuple(entry) for entry in contents["bad"]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return None if bad and not task.skip_bad else ShardResult(task.split, shard, bad)


def write_record(task: ShardTask, result: ShardResult) -> None:
    """Record that a shard is finished, for `finished_shard`."""
    shard = result.shard and asdict(result.shard)
    write_json(task.record, {"shard": shard, "bad": result.bad})


def write_shard(task: ShardTask, step: Callable[[], None]) -> ShardResult:
    """Write a shard, replacing what an earlier run left of it; call `step` after each image."""
    bad: list[tuple[str, str]] = []
    with _place_to_work(task) as place:
        path = place / Path(task.file).name
        sums = _write(path, task, _rows(task, step, bad))
        if bad and not task.skip_bad:
            return ShardResult(task.split, None, bad)
        shard = _checked(path, task, sums) if sums else None
        if shard:
            _move(path, task.out / task.file)
        result = ShardResult(task.split, shard, bad)
        write_record(task, result)
        return result


@contextmanager
def _place_to_work(task: ShardTask) -> Iterator[Path]:
    """Yield an empty folder beside the finished shards, and remove it at the end."""
    place = task.work_path(str(os.getpid()))
    try:
        shutil.rmtree(place, ignore_errors=True)  # left by a killed process with the same id
        place.mkdir()
        yield place
    except OSError as error:
        raise DataError(_cannot_write(task.out, error.strerror or str(error))) from None
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _cannot_write(out: Path, reason: str) -> str:
    try:
        free = f"; {shutil.disk_usage(out).free / 2**20:.0f} MB are free there"
    except OSError:
        free = ""
    return f"{out} cannot be written: {reason}{free}; the same command goes on where it stopped"


def _rows(task: ShardTask, step, bad: list) -> Iterator[dict]:
    """Read the images in order; add those that training would find bad to `bad`."""
    images = task.images
    for path, label, size in zip(images.paths, images.labels, images.sizes):
        name = f"{task.split}/{path}"
        try:
            image = _read(os.path.join(images.folder, path), int(size))
            check_to_the_end(image)
            if task.cap:
                image = capped(image, task.cap, task.quality)
            # Exactly these types: MindSpore skips rows of other types, with a warning.
            yield {"image": image.tobytes(), "label": int(label), "name": os.fsencode(name)}
        except ImageError as error:
            bad.append((name, str(error)))
        step()


def capped(data: np.ndarray, cap: int, quality: int) -> np.ndarray:
    """Shrink an image file so that its shorter side is at most `cap` pixels.

    A smaller image keeps its bytes. A larger one is converted to RGB, resized (bicubic,
    antialiased) and encoded as JPEG, 4:2:0, without colour profile and EXIF. Its EXIF orientation
    is ignored, as it is when the original is read. FFCV (`max_resolution` of `RGBImageField`) caps
    the longer side; a crop has to fit into the shorter one.

    Args:
        data: content of an image file, (bytes,) uint8.
        quality: of the JPEG, 1 to 100.

    Raises:
        ImageError: the image cannot be decoded, or its longer side exceeds JPEG's limit.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            width, height = image.size
    except (OSError, Image.DecompressionBombError) as error:
        raise ImageError(f"damaged image: {error}") from None
    shorter = min(width, height)
    if shorter <= cap:
        return data
    size = (round(width * cap / shorter), round(height * cap / shorter))
    smaller = decode(data).resize(size, Image.BICUBIC)
    buffer = io.BytesIO()
    try:
        smaller.save(buffer, "JPEG", quality=quality)
    except OSError as error:
        raise ImageError(f"{size[0]}x{size[1]} pixels cannot become a JPEG: {error}") from None
    return np.frombuffer(buffer.getvalue(), np.uint8)


def _read(path: str, size: int) -> np.ndarray:
    try:
        data = read_file(os.fsencode(path))
    except ImageError:
        # As `list_source` has it: 0 if there is no such file.
        if (os.path.getsize(path) if os.path.exists(path) else 0) == size:
            raise
        data = np.zeros(0, np.uint8)
    if len(data) != size:
        raise DataError(f"{path} changed while it was packed: {len(data)} bytes, {size} before")
    return data


def _write(path: Path, task: ShardTask, rows: Iterator[dict]) -> list[tuple[int, int]]:
    """Write the rows; return the label and the checksum of each."""
    page = task.page_bytes
    writer = FileWriter(str(path))
    try:
        writer.set_header_size(task.header_bytes)
        writer.set_page_size(page)
        writer.add_schema(_SCHEMA, "mindcv pack")
        writer.add_index(["label"])
        sums, batch, size = [], [], 0
        for row in rows:
            if len(row["image"]) + len(row["name"]) + 64 > page:
                raise DataError(
                    f"{os.fsdecode(row['name'])} has {len(row['image'])} bytes, more than the "
                    f"{page} of a page of a MindRecord file; remove it, or pack with a smaller cap"
                )
            sums.append((row["label"], _checksum(row["image"], row["name"])))
            batch.append(row)
            size += len(row["image"])
            if size >= _WRITE_BYTES:
                writer.write_raw_data(batch)
                batch, size = [], 0
        if batch:
            writer.write_raw_data(batch)
        if sums:
            writer.commit()
        return sums
    except RuntimeError as error:
        raise DataError(_cannot_write(task.out, f"MindSpore: {first_line(error)}")) from error


def _checksum(image, name: bytes) -> int:
    return zlib.crc32(name, zlib.crc32(image))


def _checked(path: Path, task: ShardTask, sums: list[tuple[int, int]]) -> ShardFile:
    """Read a written shard back: MindSpore reports a full disk late or not at all."""
    try:
        written = MindRecordFile(path)
        found = [
            (int(label), _checksum(written.read(row), written.name(row)))
            for row, label in enumerate(written.labels)
        ]
    except DataError as error:
        raise DataError(_cannot_write(task.out, f"reading back, {error}")) from None
    if found != sums:
        raise DataError(_cannot_write(task.out, f"{path.name} reads back differently"))
    index = path.with_name(f"{path.name}.db")
    for file in (path, index):
        file.chmod(0o644)  # MindSpore makes its files readable only by their owner
        with open(file, "rb") as opened:
            os.fsync(opened.fileno())
    return ShardFile(
        file=task.file,
        images=len(sums),
        bytes=path.stat().st_size,
        sha256=sha256_of_file(path),
        index_bytes=index.stat().st_size,
        index_sha256=sha256_of_file(index),
    )


def _move(path: Path, place: Path) -> None:
    place.parent.mkdir(exist_ok=True)
    os.replace(path.with_name(f"{path.name}.db"), place.with_name(f"{place.name}.db"))
    os.replace(path, place)
