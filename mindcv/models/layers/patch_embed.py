"""Images as sequences of patches, for transformers of one's own."""

from collections.abc import Callable, Sequence
from enum import Enum

from mindspore import Tensor, nn, ops

from ..helpers import to_2tuple

__all__ = ["Format", "PatchEmbed", "nchw_to", "nhwc_to"]


class Format(str, Enum):
    """The order of a tensor's axes; L is height times width."""

    NCHW = "NCHW"
    NHWC = "NHWC"
    NCL = "NCL"
    NLC = "NLC"


def nchw_to(x: Tensor, fmt: Format | str) -> Tensor:
    """Bring (N, C, H, W) into another format."""
    if fmt == Format.NHWC:
        return ops.permute(x, (0, 2, 3, 1))
    if fmt == Format.NCHW:
        return x
    x = x.reshape(x.shape[:2] + (-1,))
    return x if fmt == Format.NCL else ops.permute(x, (0, 2, 1))


def nhwc_to(x: Tensor, fmt: Format | str) -> Tensor:
    """Bring (N, H, W, C) into another format."""
    return x if fmt == Format.NHWC else nchw_to(ops.permute(x, (0, 3, 1, 2)), fmt)


class PatchEmbed(nn.Cell):
    """Map each patch of an image to a vector: (N, C, H, W) to (N, patches, embed_dim).

    Args:
        image_size, patch_size: pixels, one number or (height, width); image_size None: any.
        norm_layer: class of a normalisation of the vectors; None: none.
        flatten: False: (N, embed_dim, H / patch, W / patch).
        output_fmt: a `Format` of the output, which goes before `flatten`.
        strict_img_size: refuse images of another size than `image_size`.
        dynamic_img_pad: pad images at the right and bottom to whole patches.

    Raises:
        ValueError: an image has another size, or is not padded to whole patches.
    """

    def __init__(
        self,
        image_size: int | Sequence[int] | None = 224,
        patch_size: int | Sequence[int] = 4,
        in_chans: int = 3,
        embed_dim: int = 96,
        norm_layer: Callable[..., nn.Cell] | None = None,
        flatten: bool = True,
        output_fmt: str | None = None,
        bias: bool = True,
        strict_img_size: bool = True,
        dynamic_img_pad: bool = False,
    ):
        super().__init__()
        self.patch_size = tuple(to_2tuple(patch_size))
        self.image_size = self.patches_resolution = self.num_patches = None
        if image_size is not None:
            self.image_size = tuple(to_2tuple(image_size))
            rows, columns = (s // p for s, p in zip(self.image_size, self.patch_size))
            self.patches_resolution, self.num_patches = (rows, columns), rows * columns
        fallback = Format.NLC if flatten else Format.NCHW
        self.output_fmt = fallback if output_fmt is None else Format(output_fmt)
        self.strict_img_size, self.dynamic_img_pad = strict_img_size, dynamic_img_pad
        self.embed_dim = embed_dim
        self.proj = nn.Conv2d(
            in_chans,
            embed_dim,
            self.patch_size,
            stride=self.patch_size,
            pad_mode="pad",
            has_bias=bias,
            weight_init="TruncatedNormal",
        )
        self.norm = norm_layer((embed_dim,), epsilon=1e-5) if norm_layer else None

    def construct(self, x):
        size, patch = x.shape[2:], self.patch_size
        if self.image_size is not None and self.strict_img_size:
            if size != self.image_size:
                raise ValueError(f"an image of {size} pixels; the model takes {self.image_size}")
        elif self.image_size is not None and not self.dynamic_img_pad:
            if size[0] % patch[0] or size[1] % patch[1]:
                raise ValueError(f"an image of {size} pixels is no multiple of patches of {patch}")
        if self.dynamic_img_pad:
            x = ops.pad(x, (0, -size[1] % patch[1], 0, -size[0] % patch[0]))
        x = nchw_to(self.proj(x), self.output_fmt)
        return x if self.norm is None else self.norm(x)
