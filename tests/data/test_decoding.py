"""Pillow as the decoder, always in evaluation and optionally in training, against MindSpore's."""

import io

import mindspore.dataset as ds
import numpy as np
import pytest
from mindspore.dataset import vision
from pictures import png, random_images, smooth_image
from PIL import Image

from mindcv import create_dataset
from mindcv.data import create_loader, create_transforms
from mindcv.data.image_files import PillowDecode


def encoded(image: Image.Image, kind: str, **options) -> np.ndarray:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return np.frombuffer(file.getvalue(), np.uint8)


def picture(height: int, width: int) -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 60, (height, width, 3))
    return Image.fromarray(np.clip(smooth_image(height, width) + noise, 0, 255).astype(np.uint8))


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize(
    "options", [{}, dict(quality=30, optimize=True), dict(progressive=True)], ids=str
)
@pytest.mark.parametrize("size", [(64, 48), (61, 37), (1, 1)])
def test_pixels_of_a_jpeg_are_mindspores(size, options, subsampling):
    content = encoded(picture(*size), "JPEG", subsampling=subsampling, **options)
    np.testing.assert_array_equal(PillowDecode()(content), vision.Decode()(content))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_grey_and_coloured_files_of_each_kind_have_mindspores_pixels(kind, mode):
    content = encoded(picture(40, 30).convert(mode), kind)
    decoded = PillowDecode()(content)
    assert decoded.shape == (40, 30, 3) and decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, vision.Decode()(content))


@pytest.mark.parametrize("mode", ["P", "RGBA", "1"])
def test_other_kinds_are_left_to_mindspore(mode):
    content = encoded(picture(40, 30).convert(mode), "PNG")
    np.testing.assert_array_equal(PillowDecode()(content), vision.Decode()(content))


@pytest.mark.parametrize("content", [b"", b"no image", bytes(png(random_images(1, 40)[0]))[:900]])
def test_a_damaged_image_is_an_error(content):
    with pytest.raises(RuntimeError, match="damaged image"):
        PillowDecode()(np.frombuffer(content, np.uint8))


@pytest.mark.parametrize("separate", [False, True])
def test_training_crops_are_the_same_by_either_decoder(tmp_path, monkeypatch, separate):
    """To the last bit without chroma subsampling; with it, MindSpore's crops differ at edges."""
    for number in range(8):
        kind = ("JPEG", "PNG")[number % 2]
        options = dict(subsampling=0) if kind == "JPEG" else {}
        place = tmp_path / "train" / f"class{number % 4}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number}.{kind}").write_bytes(
            bytes(encoded(picture(61 + number, 90), kind, **options))
        )

    def batch(decoder: str) -> np.ndarray:
        ds.config.set_seed(42)
        transform = create_transforms(
            "", 32, True, "augmix" if separate else None, separate, True, decoder=decoder
        )
        loader = create_loader(
            create_dataset("", str(tmp_path)),
            8,
            is_training=True,
            transform=transform,
            num_parallel_workers=1,
            separate=separate,
        )
        (images, _), *_ = loader.create_tuple_iterator(num_epochs=1, output_numpy=True)
        return images

    by_mindspore = batch("mindspore")
    monkeypatch.setattr(vision, "RandomCropDecodeResize", None)
    monkeypatch.setattr(vision, "Decode", lambda: None)
    np.testing.assert_array_equal(batch("pillow"), by_mindspore)
    assert by_mindspore.shape[0] == (24 if separate else 8)


def test_another_decoder_is_refused():
    with pytest.raises(ValueError, match="'opencv' is unknown; expected mindspore, pillow"):
        create_transforms(is_training=True, decoder="opencv")
