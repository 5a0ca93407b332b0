"""What make_mindcv_models.py records of MindCV and conformance/test_models.py asks ours."""

import mindspore as ms
import numpy as np
from golden.fill import fill, images
from mindspore import nn

SHAPE = (2, 8, 6, 5)
# name: class, arguments, keywords
LAYERS = {
    "squeeze excite": ("SqueezeExcite", (32,), {}),
    "squeeze excite, ratio": ("SqueezeExcite", (8, 0.5, None, 4), {}),
    "squeeze excite, channels": ("SqueezeExcite", (8, 1 / 16, 3), {"norm": nn.BatchNorm2d}),
    "squeeze excite, others": (
        "SqueezeExcite",
        (8,),
        {"rd_channels": 2, "act_layer": nn.SiLU, "gate_layer": nn.HSigmoid},
    ),
    "squeeze excite, dense": ("SqueezeExciteV2", (8,), {"rd_channels": 2}),
    "convolution": ("Conv2dNormActivation", (8, 6), {}),
    "convolution, strided": ("Conv2dNormActivation", (8, 6, 5, 2), {"groups": 2}),
    "convolution, dilated": (
        "Conv2dNormActivation",
        (8, 6),
        {"dilation": 2, "norm": None, "activation": None},
    ),
    "convolution, same": ("Conv2dNormActivation", (8, 6, 3, 2, "same"), {"activation": nn.SiLU}),
    "pooling": ("GlobalAvgPooling", (), {}),
    "pooling, kept": ("GlobalAvgPooling", (True,), {}),
    "identity": ("Identity", (), {}),
    "swish": ("Swish", (), {}),
    "drop path": ("DropPath", (0.5,), {}),
    "drop path, unscaled": ("DropPath", (0.5, False), {}),
    "dropout": ("Dropout", (0.5,), {}),
    "interpolate": ("Interpolate", (2.0,), {"recompute_scale_factor": True}),
    "split": ("Split", (4, 2, 1), {}),
    "bilinear": ("ResizeBilinear", ((3, 4),), {"align_corners": True}),
    "selective kernel": ("SelectiveKernel", (8,), {}),
    "selective kernel, sizes": (
        "SelectiveKernel",
        (8, 16, [3, 7], 2),
        {"keep_3x3": False, "split_input": False, "groups": 2, "rd_channels": 6},
    ),
    "selective kernel, one size": ("SelectiveKernel", (8, None, 5), {"activation": nn.SiLU}),
    "patches": ("PatchEmbed", ((6, 5), (3, 5), 8, 7, nn.LayerNorm), {}),
    "patches, map": ("PatchEmbed", (None, 2, 8, 7), {"flatten": False, "bias": False}),
    "patches, padded": (
        "PatchEmbed",
        ((6, 5), 4, 8, 7),
        {"output_fmt": "NHWC", "dynamic_img_pad": True},
    ),
    "mlp": ("Mlp", (5,), {}),
    "mlp, sizes": ("Mlp", (5, 7, 3, nn.ReLU), {}),
}
# depths, stem, its width, block, widths, strides, bottleneck ratios, group widths, head width,
# classes, SE ratio, channels: all by position
SMALL = ([16, 24], [2, 2], [1.0, 0.5], [8, 4], 0, 5, 0.25, 3)
NETWORKS = {
    "bottleneck": ("AnyNet", ([1, 2], "simple_stem_in", 8, "res_bottleneck_block", *SMALL)),
    "linear": ("AnyNet", ([1, 2], "simple_stem_in", 8, "res_bottleneck_linear_block", *SMALL)),
    "basic": ("AnyNet", ([1, 2], "res_stem_in", 8, "res_basic_block", *SMALL)),
    "vanilla": ("AnyNet", ([1, 2], "res_stem_cifar", 8, "vanilla_block", *SMALL)),
    "regnet": (
        "RegNet",
        (8, 8, 2.0, 3, 8, 2, 1.0, "simple_stem_in", 16, "res_bottleneck_block", 12, 5, 0.25, 3),
    ),
}
DIVISIBLE = [(4, 8), (12, 8), (17.5, 8), (38, 16), (104, 16), (3, 8, 16), (100, 8, 24)]
FILTERS = [
    {"filter": "regnet_x_2*"},
    {"filter": ["regnet_x_2*", "regnet_?_8_*"]},
    {"filter": ("*_x_*",), "exclude_filters": "*gf"},
    {"filter": "regnet_[xy]_400mf", "module": "regnet"},
    {"filter": "regnet_x_*", "exclude_filters": ["*00mf", "*_1?gf"]},
    {"filter": "regnet_x_*", "module": "resnet_of_nobody"},
    {"filter": "nothing*"},
]


class Chain(nn.Cell):
    """A network of MindCV's form: two layers in a container, one beside it, and a classifier."""

    def __init__(self, num_classes: int = 5, in_channels: int = 3):
        super().__init__()
        self.features = nn.SequentialCell(nn.Conv2d(in_channels, 4, 1), nn.Conv2d(4, 6, 3, 2))
        self.last = nn.Conv2d(6, 8, 3, 2)
        self.classifier = nn.Dense(8, num_classes)
        self.flatten_sequential = True
        self.feature_info = [
            dict(chs=4, reduction=1, name="features.0"),
            dict(chs=6, reduction=2, name="features.1"),
            dict(chs=8, reduction=4, name="last"),
        ]

    def maps(self, x) -> list:
        first = self.features[0](x)
        second = self.features[1](first)
        return [first, second, self.last(second)]

    def construct(self, x):
        return self.classifier(self.maps(x)[-1].mean((2, 3)))


class Rewritten(Chain):
    is_rewritten = True

    def construct(self, x):
        return self.maps(x)


def named_in_a_parent(backbone: nn.Cell) -> list[str]:
    """Return the names of the backbone's parameters inside a detector."""
    parent = nn.Cell()
    parent.backbone = backbone
    return [parameter.name for parameter in parent.get_parameters()]


def fill_in_order(network: nn.Cell) -> nn.Cell:
    """Fill the parameters by place and kind, since the two libraries name them differently."""
    for place, parameter in enumerate(network.get_parameters()):
        name = f"{place}.{parameter.name.rsplit('.', 1)[-1]}"
        parameter.set_data(ms.Tensor(fill(name, parameter.shape)))
    return network.set_train(False)


def output(network: nn.Cell, shape: tuple[int, ...]) -> np.ndarray:
    """Return the output for set weights and images; several arrays one after another."""
    found = fill_in_order(network)(ms.Tensor(images(shape)))
    found = found if isinstance(found, (tuple, list)) else [found]
    return np.concatenate([one.asnumpy() for one in found])


def layer_shape(name: str) -> tuple[int, ...]:
    return (2, 32, 6, 5) if name == "squeeze excite" else SHAPE
