"""Compare reading plain image files with packed ones: their own bytes, and made smaller.

    python benchmarks/packed.py --photos FOLDER [--caps 400 320 256] [--workers 2] [--passes 7]

FOLDER holds train/<class>/<photograph>.jpg. Every form goes through the same loader: random resized
crop to 224 pixels and flip, uint8 batches of 32. The forms take turns, forwards and backwards, so
that a machine whose speed drifts treats them alike; the table shows medians of images/s and of the
ratios to the plain files within one turn. The first turn warms up and is not counted; files come
from the page cache, so that decoding is measured and no disk.
"""

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
SIZE, BATCH = 224, 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", required=True, help="folder with train/<class>/<photograph>")
    parser.add_argument("--caps", type=int, nargs="*", default=[400, 320, 256])
    parser.add_argument("--quality", type=int, default=90, help="of the capped images")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--passes", type=int, default=7)
    asked = parser.parse_args()
    os.environ.setdefault("GLOG_v", "3")
    with tempfile.TemporaryDirectory() as place:
        forms = build(asked, Path(place))
        loaders = {name: loader for name, (_, loader) in forms.items()}
        speeds = {name: [] for name in forms}
        for turn in range(asked.passes + 1):
            for name in list(forms)[:: -1 if turn % 2 else 1]:
                speed = images_per_second(loaders[name])
                if turn:
                    speeds[name].append(speed)
    report(asked, {name: size for name, (size, _) in forms.items()}, speeds)


def build(asked, place: Path) -> dict:
    """Pack the photographs; return bytes an image and loader of each form."""
    from mindcv.tools.pack.dataset import pack

    plain = [path for path in Path(asked.photos, "train").rglob("*") if path.is_file()]
    mean_size = sum(path.stat().st_size for path in plain) / len(plain)
    forms = {"plain files": (mean_size, loader_of("imagenet", asked.photos, asked.workers))}
    for cap in (None, *asked.caps):
        out = place / str(cap)
        pack(asked.photos, str(out), ["train"], cap, asked.quality, tell=lambda line: None)
        size = sum(file.stat().st_size for file in out.rglob("*.mindrecord")) / len(plain)
        name = f"packed, shorter side at most {cap}" if cap else "packed, own bytes"
        forms[name] = (size, loader_of("mindrecord", str(out), asked.workers))
    return forms


def loader_of(name: str, root: str, workers: int):
    import mindcv

    dataset = mindcv.create_dataset(name, root, "train", num_parallel_workers=workers)
    transform = mindcv.create_transforms(
        name, SIZE, is_training=True, color_jitter=None, normalize_on_device=True
    )
    return mindcv.create_loader(
        dataset, BATCH, is_training=True, transform=transform, num_parallel_workers=workers
    )


def images_per_second(loader) -> float:
    start, images = time.perf_counter(), 0
    for image, _ in loader.create_tuple_iterator(num_epochs=1, output_numpy=True):
        images += len(image)
    return images / (time.perf_counter() - start)


def report(asked, sizes: dict, speeds: dict) -> None:
    import mindspore
    import PIL

    print(
        f"{asked.photos}: {os.cpu_count()} cores, {asked.workers} workers, {asked.passes} passes; "
        f"MindSpore {mindspore.__version__}, Pillow {PIL.__version__}, {platform.machine()}; load "
        f"{os.getloadavg()[0]:.1f} at the end"
    )
    print("| form | KB an image | images/s | ratio to plain files | lowest … highest ratio |")
    print("|---|---|---|---|---|")
    plain = speeds["plain files"]
    for name, own in speeds.items():
        ratios = [speed / other for speed, other in zip(own, plain)]
        print(
            f"| {name} | {sizes[name] / 1024:.1f} | {statistics.median(own):.0f} | "
            f"{statistics.median(ratios):.2f} | {min(ratios):.2f} … {max(ratios):.2f} |"
        )


if __name__ == "__main__":
    main()
