"""Classify images with MindSpore Lite, on a CPU or an Ascend 310: no MindSpore, no mindcv needed.

    mindcv export --ckpt_path classifier.ckpt --output classifier.onnx --normalize
    python classify.py classifier.onnx photo.jpg                     # CPU
    python classify.py classifier.onnx photo.jpg --target ascend     # Ascend 310

`classifier.onnx.json`, which `export` writes, gives classes and preprocessing. The ONNX file is
converted once, into `classifier.cpu.mindir` or `classifier.ascend.mindir` beside it.

On the CPU this was run with MindSpore Lite 2.0.0 (`pip install mindspore-lite==2.0.0`, Python 3.7,
the newest on PyPI). **On an Ascend 310 it was not run**: `optimize = "ascend_oriented"` and
`target = ["ascend"]` are what the documentation of that package says about Ascend, and the
conversion must take place where CANN is installed. MINDIR files of MindSpore 2.10 are too new for
this Lite, which refuses them; their ONNX files convert.
"""

import argparse
import json
import math
from pathlib import Path

import numpy as np
from PIL import Image


def preprocess(image: Image.Image, about: dict) -> np.ndarray:
    """Return a batch of one, as the file's description asks for: uint8 or normalised float32.

    Pillow antialiases when it makes an image smaller; a network trained without (`antialias` is
    false) gets slightly smoother pixels here than in `mindcv predict`.
    """
    used = about["preprocessing"]
    size = used["image_size"]
    height, width = (size, size) if isinstance(size, int) else size
    resized = [math.floor(side / used["crop_pct"]) for side in (width, height)]
    if used["crop_mode"] == "center" and height == width:  # the shorter side; else both
        resized = [int(side * resized[0] / min(image.size)) for side in image.size]
    is_bytes = about["input"]["type"] == "uint8"
    is_grey = about["input"]["shape"][3 if is_bytes else 1] == 1
    name = used["interpolation"].upper().replace("AREA", "BOX")
    image = image.convert("L" if is_grey else "RGB").resize(resized, getattr(Image, name))
    left, top = round((resized[0] - width) / 2), round((resized[1] - height) / 2)
    pixels = np.asarray(image.crop((left, top, left + width, top + height)))
    pixels = pixels.reshape((height, width, -1))
    if is_bytes:
        return np.ascontiguousarray(pixels[None])
    normalised = (pixels - np.array(used["mean"])) / np.array(used["std"])
    return np.ascontiguousarray(normalised.transpose(2, 0, 1)[None], np.float32)


def convert(path: Path, target: str) -> Path:
    """Return the file that MindSpore Lite runs; write it if it is not there, or older."""
    import mindspore_lite as lite

    converted = path.with_suffix(f".{target}.mindir")
    if not converted.exists() or converted.stat().st_mtime < path.stat().st_mtime:
        converter = lite.Converter()
        converter.save_type = lite.ModelType.MINDIR
        converter.optimize = "general" if target == "cpu" else "ascend_oriented"
        converter.convert(lite.FmkType.ONNX, str(path), str(converted.with_suffix("")))
    return converted


def load(path: Path, target: str, device: int):
    """Return the model, ready to predict."""
    import mindspore_lite as lite

    context = lite.Context()
    if target == "ascend":
        context.ascend.device_id = device
    context.target = [target]
    model = lite.Model()
    model.build_from_file(str(path), lite.ModelType.MINDIR, context)
    return model


def describe(scores: np.ndarray, about: dict) -> str:
    """Return the classes and their probabilities: the likeliest; of several labels those from 0.5.

    Args:
        scores: (classes,), logits or probabilities, as the file's description says.
    """
    scores = scores.astype(np.float64)
    several = about.get("task") == "multi_label"
    if about["output"]["values"] == "logits":
        powers = np.exp(-np.abs(scores) if several else scores - scores.max())
        scores = (
            np.where(scores < 0, powers, 1) / (1 + powers) if several else powers / powers.sum()
        )
    names = about["class_names"] or [f"class {index}" for index in range(len(scores))]
    chosen = [index for index in np.argsort(-scores) if scores[index] >= 0.5]
    chosen = chosen if several else [int(scores.argmax())]
    return ", ".join(f"{names[index]} ({scores[index]:.1%})" for index in chosen)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", type=Path, help="an .onnx file of export, its .json beside it")
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--target", choices=("cpu", "ascend"), default="cpu")
    parser.add_argument("--device", type=int, default=0, help="number of the Ascend device")
    arguments = parser.parse_args()
    about = json.loads(Path(f"{arguments.network}.json").read_text(encoding="utf-8"))
    converted = convert(arguments.network, arguments.target)
    model = load(converted, arguments.target, arguments.device)
    for path in arguments.images:
        batch = preprocess(Image.open(path), about)
        inputs = model.get_inputs()
        model.resize(inputs, [list(batch.shape)])  # an `any` batch becomes one of 1
        inputs = model.get_inputs()
        inputs[0].set_data_from_numpy(batch)
        scores = model.predict(inputs)[0].get_data_to_numpy()[0]
        print(f"{path}: {describe(scores, about)}")


if __name__ == "__main__":
    main()
