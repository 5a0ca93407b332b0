"""Contents of image files, good, odd and bad, for the tests of what is done with them."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from pictures import smooth_image
from PIL import Image

HEIGHT, WIDTH = 45, 61
# As large as Pillow takes it, and one byte more, of zeros, in a thousandth of it.
NOTE, BOMB = zlib.compress(bytes(1 << 20)), zlib.compress(bytes((1 << 20) + 1))


def picture(height: int = HEIGHT, width: int = WIDTH) -> Image.Image:
    return Image.fromarray(smooth_image(height, width))


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def sixteen_bits() -> np.ndarray:
    return np.arange(HEIGHT * WIDTH, dtype=np.uint16).reshape(HEIGHT, WIDTH) * 23


def rotated_by_exif() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(picture(), "JPEG", exif=exif)


def plain_files() -> dict[str, bytes]:
    """Return files that MindSpore's decoders take as they are."""
    rgb, grey = picture(), picture().convert("L")
    return {
        "jpeg": encoded(rgb, "JPEG", quality=92),
        "progressive": encoded(rgb, "JPEG", progressive=True),
        "grey jpeg": encoded(grey, "JPEG"),
        "grey progressive": encoded(grey, "JPEG", progressive=True),
        "4:4:4": encoded(rgb, "JPEG", subsampling="4:4:4"),
        "4:2:2": encoded(rgb, "JPEG", subsampling="4:2:2"),
        "RGB components": encoded(rgb, "JPEG", keep_rgb=True),
        "restart markers": encoded(rgb, "JPEG", restart_marker_rows=1),
        "own tables": encoded(rgb, "JPEG", optimize=True),
        "EXIF-rotated": rotated_by_exif(),
        "1x1 jpeg": encoded(picture(1, 1), "JPEG"),
        "trailer": encoded(rgb, "JPEG") + b"a camera's own notes \xff\xc0\xff" * 9,
        "png": encoded(rgb, "PNG"),
        "grey png": encoded(grey, "PNG"),
        "rgba png": encoded(rgb.convert("RGBA"), "PNG"),
        "grey and alpha png": encoded(grey.convert("LA"), "PNG"),
        "colour key": encoded(rgb, "PNG", transparency=(1, 2, 3)),
        "png with notes": with_chunk(
            with_chunk(
                with_chunk(encoded(rgb, "PNG"), b"zTXt", b"a\0\0" + NOTE), b"zTXt", b"a\0\0no"
            ),
            b"iTXt",
            b"a\0\0\0\0\0note",
        ),
        "1x1 png": encoded(picture(1, 1), "PNG"),
        "bmp": encoded(rgb, "BMP"),
    }


def odd_files() -> dict[str, bytes]:
    """Return files that Pillow decodes, of kinds that MindSpore's decoders are not given."""
    rgb = picture()
    palette = rgb.quantize(16)
    frames = [rgb.quantize(64), rgb.rotate(180).quantize(64)]
    return {
        "CMYK": encoded(rgb.convert("CMYK"), "JPEG"),
        "16-bit": encoded(Image.fromarray(sixteen_bits()), "PNG"),
        "palette": encoded(palette, "PNG"),
        "palette+alpha": encoded(palette, "PNG", transparency=bytes(range(0, 160, 10))),
        "1-bit": encoded(rgb.convert("1"), "PNG"),
        "animated gif": encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "webp": encoded(rgb, "WEBP", lossless=True),
        "tiff": encoded(rgb, "TIFF"),
        "palette bmp": encoded(palette, "BMP"),
        "32-bit bmp": encoded(rgb.convert("RGBA"), "BMP"),
    }


def bad_files() -> dict[str, tuple[bytes, str]]:
    """Return files that nothing decodes, with what is to be said of them."""
    jpeg, png = encoded(picture(), "JPEG"), encoded(picture(), "PNG")
    gif = encoded(picture().quantize(64), "GIF")
    bomb = bytearray(jpeg)
    at = bomb.find(b"\xff\xc0") + 5
    bomb[at : at + 4] = struct.pack(">HH", 60000, 60000)
    return {
        "0-byte": (b"", "empty"),
        "text": (b"<html>not found</html>\n" * 20, "not an image (text file): '<html>"),
        "unknown": (bytes(range(200, 256)) * 9, "no image of the formats"),
        "truncated header": (jpeg[:300], "damaged image"),
        "truncated body": (jpeg[:-100], "damaged image: image file is truncated"),
        "bad CRC": (changed(png, png.find(b"IDAT") + 40), "wrong checksum"),
        "bad CRC in the end": (changed(png, len(png) - 2), "wrong checksum"),
        "truncated png": (png[:-100], "damaged image"),
        "decompression bomb": (bytes(bomb), "too large: its header says 60000 x 60000"),
        "png bomb": (png_of_header(60000, 60000), "too large"),
        "no width": (png_of_header(0, 7), "no pixels"),
        "thin jpeg": (encoded(picture(1, 60_000), "JPEG"), "too thin: its header says 60000 x 1"),
        "thin png": (png_of_header(1, 101), "too thin: its header says 1 x 101 pixels"),
        "thin gif": (encoded(picture(500, 2).quantize(8), "GIF"), "too thin"),
        "gif bomb": (gif[:6] + struct.pack("<HH", 65000, 65000) + gif[10:], "too large"),
        "truncated bmp": (encoded(picture(), "BMP")[:-100], "damaged image"),
        "iCCP bomb": (
            with_chunk(png, b"iCCP", b"a\0\0" + BOMB),
            "too large: its iCCP becomes more",
        ),
        "zTXt bomb": (
            with_chunk(png, b"zTXt", b"a\0\0" + BOMB),
            "too large: its zTXt becomes more",
        ),
        "iTXt bomb": (with_chunk(png, b"iTXt", b"a\0\1\0\0\0" + BOMB), "too large: its iTXt"),
        "bomb in the end": (
            with_chunk(png, b"zTXt", b"a\0\0" + BOMB, b"IEND"),
            "too large: its zTXt",
        ),
        "float tiff": (encoded(Image.new("F", (9, 9), 0.5), "TIFF"), "pixels of mode F"),
    }


def write_files(folder: Path, **files: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / f"{name}.jpg").write_bytes(content)
    return folder


def jpeg(number: int) -> bytes:
    """Return a JPEG that differs from those of other numbers."""
    return encoded(Image.new("RGB", (40, 40 + number), (number, 0, 0)), "JPEG")


def changed(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 0x55]) + content[at + 1 :]


def png_of_header(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def with_chunk(png: bytes, kind: bytes, content: bytes, before: bytes = b"IDAT") -> bytes:
    at = png.find(before) - 4
    return png[:at] + chunk(kind, content) + png[at:]


def png_with_broken_pixels() -> bytes:
    """Return a PNG whose checksums are right and whose compressed data is not."""
    png = encoded(picture(), "PNG")
    at = png.find(b"IDAT")
    length = int.from_bytes(png[at - 4 : at], "big")
    pixels = bytearray(png[at + 4 : at + 4 + length])
    pixels[100:110] = bytes(10)
    return png[: at - 4] + chunk(b"IDAT", bytes(pixels)) + chunk(b"IEND", b"")


def chunk(kind: bytes, content: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum
