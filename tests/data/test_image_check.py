"""How a file's bytes change before MindSpore's decoders see them, compared with Pillow."""

import io
import warnings

import image_files
import numpy as np
import pytest
from conftest import ROOT
from mindspore.dataset import vision
from PIL import Image

from mindcv.data.image_files import MOST_PIXELS, decodable, pixels
from mindcv.data.samples import ImageError

PLAIN, ODD, BAD = image_files.plain_files(), image_files.odd_files(), image_files.bad_files()


def array(content: bytes) -> np.ndarray:
    return np.frombuffer(content, np.uint8)


def pillow(content: bytes) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the alpha of a palette is dropped
        return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # MindSpore leaves copies of what it cannot decode


@pytest.mark.parametrize("kind", PLAIN)
def test_plain_files_pass_untouched_and_show_what_pillow_shows(kind):
    content = array(PLAIN[kind])
    assert decodable(content) is content
    assert np.array_equal(vision.Decode()(content), pillow(PLAIN[kind]))
    assert vision.RandomCropDecodeResize(16)(content).shape == (16, 16, 3)


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.filterwarnings("error")
def test_other_kinds_become_what_pillow_makes_of_them(kind):
    made = decodable(array(ODD[kind]))
    expected = pillow(ODD[kind])
    if kind == "16-bit":  # Pillow cuts off at 255
        expected = np.repeat(image_files.sixteen_bits()[..., None] // 256, 3, 2)
        assert len(np.unique(expected)) > 200
    assert np.array_equal(vision.Decode()(made), expected)
    assert np.array_equal(pillow(made.tobytes()), expected)
    assert vision.RandomCropDecodeResize(16)(made).shape == (16, 16, 3)
    assert decodable(made) is made


@pytest.mark.parametrize("kind", PLAIN | ODD)
def test_pixels_are_what_mindspore_makes_of_the_decodable_bytes(kind):
    content = array((PLAIN | ODD)[kind])
    found = pixels(content)
    assert found.dtype == np.uint8
    assert np.array_equal(found, vision.Decode()(decodable(content)))


def test_an_exif_orientation_is_not_followed():
    shown = vision.Decode()(decodable(array(image_files.rotated_by_exif())))
    assert shown.shape == (image_files.HEIGHT, image_files.WIDTH, 3)
    assert np.array_equal(shown, pillow(image_files.rotated_by_exif()))


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_of_a_tiff_is_not_followed_either(orientation, compression):
    """Pillow follows it; the same file without the tag gives the pixels as stored."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = image_files.encoded(image_files.picture(), "TIFF", exif=exif, compression=compression)
    stored = image_files.encoded(image_files.picture(), "TIFF", compression=compression)
    if orientation > 1:
        assert not np.array_equal(pillow(turned), pillow(stored))
    assert np.array_equal(pixels(array(turned)), pillow(stored))


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("read", [decodable, pixels])
def test_bad_files_are_refused_with_the_reason(kind, read):
    content, reason = BAD[kind]
    with pytest.raises(ImageError) as caught:
        read(array(content))
    if read is pixels:
        reason = reason.split(":")[0]  # Pillow has words of its own for a bomb
    assert reason in str(caught.value)


def test_the_largest_image_is_what_pillow_calls_no_bomb():
    assert MOST_PIXELS == 2 * Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("kind", ["jpeg", "progressive", "restart markers", "png", "bmp"])
def test_a_file_cut_anywhere_never_passes(kind):
    content = array(PLAIN[kind])
    for size in range(1, len(content), 7):
        try:
            assert decodable(content[:size]) is not content
            assert decodable(content[:size]).size > size  # decoded in spite of a lost end mark
        except ImageError:
            continue


def segment(content: bytes, marker: int) -> int:
    """Return where the content of a segment starts."""
    return content.find(bytes([0xFF, marker])) + 4


@pytest.mark.parametrize(
    "marker, offset, value, kind",
    [
        (0xC0, 7, 0x03, "jpeg"),  # sampling that libjpeg does not know
        (0xC0, 8, 0x03, "jpeg"),  # a quantisation table that is not there
        (0xC0, 8, 0x40, "jpeg"),
        (0xC0, 6, 0x09, "jpeg"),  # a component that no scan has
        (0xC0, 0, 12, "jpeg"),  # bits
        (0xC4, 0, 0x05, "jpeg"),  # number of a Huffman table
        (0xC4, 1, 0x03, "jpeg"),  # more codes of one bit than there are
        (0xC4, 20, 0x40, "jpeg"),  # a DC code of 64 bits
        (0xC4, 12, 0xF0, "jpeg"),  # more codes than the segment holds
        (0xDB, 0, 0x07, "jpeg"),
        (0xDA, 2, 0x23, "jpeg"),  # Huffman tables that are not there
        (0xDA, 1, 0x09, "jpeg"),
        (0xDA, 0, 0x02, "jpeg"),
        (0xDA, 7, 0x05, "jpeg"),  # a band of coefficients in a baseline scan
        (0xDA, 8, 0x05, "progressive"),
        (0xDA, 9, 0x35, "progressive"),  # bits that no earlier scan began
        (0xC0, -3, 0xC3, "jpeg"),  # lossless
        (0xC0, -3, 0xC9, "jpeg"),  # arithmetic coding
    ],
)
def test_a_jpeg_that_libjpeg_gives_up_on_does_not_pass(marker, offset, value, kind):
    content = bytearray(PLAIN[kind])
    content[segment(content, marker) + offset] = value
    try:
        made = decodable(array(bytes(content)))
    except ImageError:
        return
    assert np.array_equal(vision.Decode()(made), pillow(bytes(content)))
    assert made.size > len(content)


FUZZ = """
import sys
import numpy as np
from mindspore.dataset import vision
from mindcv.data.image_files import decodable
from mindcv.data.samples import ImageError

sys.path.append(sys.argv[3])
import image_files

seed, count = map(int, sys.argv[1:3])
rng = np.random.default_rng(seed)
files = {k: v for k, v in image_files.plain_files().items() if b"PNG" not in v[:4]}
decoders = [vision.Decode(), vision.RandomCropDecodeResize(8), vision.RandomCropDecodeResize(8)]
passed = 0
for trial in range(count):
    kind = list(files)[trial % len(files)]
    content = np.frombuffer(files[kind], np.uint8).copy()
    first = 2 if trial % 3 else len(content) // 2
    at = rng.integers(first, len(content), rng.integers(1, 5))
    match trial % 5:
        case 0:
            content[at] = rng.integers(0, 256, len(at))
        case 1:
            content[at] ^= 1 << rng.integers(0, 8, len(at)).astype(np.uint8)
        case 2:
            content = np.delete(content, slice(at[0], at[0] + rng.integers(1, 200)))
        case 3:
            marker = rng.choice([0xC4, 0xDA, 0xDB, 0xC0, 0xDD, 0xD9, 0xD8, 0xE0])
            content = np.insert(content, at[0], [255, marker, 0, at[0] % 20])
        case 4:
            content[at[0]] = 255
    content = np.ascontiguousarray(content, np.uint8)
    try:
        made = decodable(content)
    except ImageError:
        continue
    passed += made is content
    for decoder in decoders:
        try:
            decoder(made)
        except RuntimeError:
            sys.exit(f"MindSpore refuses {kind}, trial {trial}")
print(passed)
"""


@pytest.mark.parametrize(
    "seed, count", [(0, 700), *(pytest.param(s, 6000, marks=pytest.mark.slow) for s in (1, 2, 3))]
)
def test_damaged_jpegs_and_bmps_never_fail_in_mindspores_decoders(warm, tmp_path, seed, count):
    program = tmp_path / "fuzz.py"
    program.write_text(FUZZ, encoding="utf-8")
    done = warm.run([program, seed, count, ROOT / "tests"], tmp_path)
    assert done.code == 0, done.err[-2000:]  # negative: a signal
    assert int(done.out.split()[-1]) > count // 10
