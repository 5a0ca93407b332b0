"""Write an image folder of photographs: 500x375 JPEGs of quality 92, as ImageNet's mostly are.

    python benchmarks/pipeline/make_photos.py OUT [--source DIR_OR_WHEEL …] [--count 1215] [--val 0]

The photographs are those that scikit-image, scikit-learn and foolbox bring: installed, or in wheels
or folders named by --source. Each file is another crop of one of them; the same call writes the
same pixels.
"""

import argparse
import importlib.util
import io
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (500, 375)
QUALITY = 92
CLASSES = 8
_PACKAGES = ("skimage", "sklearn", "foolbox")
_NAMED = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "china.jpg", "flower.jpg")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--source", type=Path, nargs="*", default=[])
    parser.add_argument("--count", type=int, default=1215)
    parser.add_argument("--val", type=int, default=0, help="further files, of a folder val")
    arguments = parser.parse_args()
    photos = find_photos(arguments.source or _installed())
    if not photos:
        parser.error(f"no photographs found; install {', '.join(_PACKAGES)} or name --source")
    rng = np.random.default_rng(0)
    for index in range(arguments.count + arguments.val):
        split = "train" if index < arguments.count else "val"
        folder = arguments.out / split / f"class_{index % CLASSES}"
        folder.mkdir(parents=True, exist_ok=True)
        photo = photos[index % len(photos)]
        _crop(photo, rng).save(folder / f"{index:05d}.jpg", quality=QUALITY)
    print(
        f"{arguments.count} files of {len(photos)} photographs in {arguments.out}/train, "
        f"{arguments.val} in val"
    )


def find_photos(sources: list[Path]) -> list[Image.Image]:
    """Return the sample photographs of folders and wheels, in sorted order, each name once."""
    found = {}
    for source in sources:
        if source.is_dir():
            files = {str(path): path.read_bytes for path in source.rglob("*") if _is_sample(path)}
        else:
            archive = zipfile.ZipFile(source)
            names = [name for name in archive.namelist() if _is_sample(Path(name))]
            files = {name: lambda name=name, archive=archive: archive.read(name) for name in names}
        for name in sorted(files):
            found.setdefault(Path(name).name, Image.open(io.BytesIO(files[name]())).convert("RGB"))
    return [found[name] for name in sorted(found)]


def _is_sample(path: Path) -> bool:
    return path.name in _NAMED or (path.name.startswith("imagenet_") and path.suffix == ".jpg")


def _installed() -> list[Path]:
    specs = [importlib.util.find_spec(name) for name in _PACKAGES]
    return [Path(spec.origin).parent for spec in specs if spec]


def _crop(photo: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Return a random crop of 4:3, of at least 0.7 of the largest one's sides."""
    unit = min(photo.width / 4, photo.height / 3) * rng.uniform(0.7, 1)
    width, height = int(4 * unit), int(3 * unit)
    left, top = rng.integers(photo.width - width + 1), rng.integers(photo.height - height + 1)
    box = (left, top, left + width, top + height)
    return photo.crop(box).resize(SIZE, Image.Resampling.LANCZOS)


if __name__ == "__main__":
    main()
