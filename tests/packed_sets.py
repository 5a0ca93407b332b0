"""Packing in the test process, and rows as MindSpore's own reader and ours give them."""

from pathlib import Path

import mindspore.dataset as ds

from mindcv.tools.pack.dataset import pack


def quiet_pack(source, out, **options):
    return pack(str(source), str(out), workers=1, tell=lambda line: None, **options)


def rows_of_mindspore(paths) -> list[tuple[bytes, int]]:
    files = [str(path) for path in paths]
    rows = ds.MindDataset(files, ["image", "label"], shuffle=False)
    rows = rows.create_dict_iterator(num_epochs=1, output_numpy=True)
    return [(row["image"].tobytes(), int(row["label"])) for row in rows]


def rows_of_samples(samples) -> list[tuple[bytes, int]]:
    return [(samples.read(i).tobytes(), int(samples.labels[i])) for i in range(len(samples))]


def flip_a_byte(path: Path, place: int | None = None) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) - 100 if place is None else place] ^= 255
    path.write_bytes(content)
