"""`mindcv explain`: where in an image a network sees a class, by Grad-CAM."""

from argparse import ArgumentParser, Namespace

import numpy as np
from PIL import Image

from ..data.samples.pictures import find_images
from ..errors import ConfigError
from .arguments import (
    add_files,
    add_images,
    add_network_arguments,
    check_network_arguments,
    check_output,
)
from .embed import open_network
from .predict import class_folders, name_skipped, require_some, true_class

# Red, green and blue of heat 0 to 1: dark blue, cyan, yellow, red.
_HEAT, _COLOURS = (0.0, 0.35, 0.7, 1.0), ((0, 0, 255, 220), (0, 200, 220, 0), (130, 220, 0, 0))
_SHARE = 0.5  # of the colours in the picture


def add_arguments(parser: ArgumentParser) -> None:
    parser.epilog = (
        "Red regions speak for the class, blue ones do not matter to it. Source: Selvaraju et al. "
        "2017, Grad-CAM, at the output of the last stage."
    )
    add_images(parser)
    add_network_arguments(parser)
    parser.add_argument(
        "--target", metavar="CLASS", help="name or index of a class (default: the predicted one)"
    )
    add_files(
        parser, required=True, output="the pictures: .png; more pages are called FILE-2.png, …"
    )
    add_files(parser, font="of the pictures, for names beyond Latin letters")


def run(arguments: Namespace) -> None:
    check_network_arguments(arguments, classifies=True)
    check_output("output", arguments.output, (".png",), force=True)
    from ..data.contact_sheet import PredictionSheets, load_font

    font = load_font(arguments.font)
    paths = find_images(arguments.images)
    from ..classifier import Classifier

    classifier = Classifier(*open_network(arguments, "explain"))
    metadata = classifier.metadata
    target = find_class(arguments.target, metadata)
    known = frozenset(class_folders(metadata))
    of = "the predicted class" if target is None else f"class {arguments.target}"
    sheets = PredictionSheets(arguments.output, f"{metadata.model}   Grad-CAM of {of}", font=font)
    done, how = [], dict(top_k=5, threshold=0.0, batch_size=16, on_bad=name_skipped)
    for prediction, view in classifier.stream(paths, **how):
        index = prediction.guesses[0].class_index if target is None else target
        heat = grad_cam(classifier.network, metadata.preprocessing, view, index)
        sheets.add(prediction, blend(view, heat), true_class(prediction.path, known))
        done.append(prediction.path)
    require_some(done, paths, "nothing was explained")
    written = sheets.close()
    print(f"{len(done)} explained, {len(paths) - len(done)} skipped")
    print(f"wrote {', '.join(written)}")


def find_class(text: str | None, metadata) -> int | None:
    """Return the index of a class by its name or index; None for None."""
    names = list(metadata.class_names or ())
    if text is None or text in names:
        return None if text is None else names.index(text)
    if text.isdecimal() and int(text) < metadata.num_classes:
        return int(text)
    raise ConfigError(
        f"target {text!r} is neither a class name nor an index below {metadata.num_classes}"
    )


def grad_cam(network, preprocessing, view: np.ndarray, index: int) -> np.ndarray:
    """Return the heat map of a class, (h, w) float32 from 0, of the last stage's resolution.

    `relu(sum_k a_k F_k)`, where F are the feature maps before the head and a_k is the mean over
    positions of the gradient of the class's logit (source: Grad-CAM, equations 1 and 2).

    Args:
        network: has `forward_features` and `forward_head`, in evaluation mode.
        view: uint8 (H, W, C), the network's view of the image.
    """
    import mindspore as ms

    from ..data import Normalize

    images = Normalize(preprocessing.mean, preprocessing.std)(ms.Tensor(view[None]))
    features = network.forward_features(images)

    def logit(maps):  # no lambda: MindSpore's graph mode parses none amid a call
        return network.forward_head(maps)[0, index]

    weights = ms.grad(logit)(features).asnumpy().mean((2, 3), keepdims=True)
    return np.maximum(0.0, (weights * features.asnumpy()).sum(1))[0]


def blend(view: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Return the view with the heat map, scaled to its largest value, in colour above it."""
    height, width = view.shape[:2]
    scaled = Image.fromarray((heat / (heat.max() or 1.0)).astype(np.float32))
    smooth = np.asarray(scaled.resize((width, height), Image.Resampling.BILINEAR))
    colour = np.stack([np.interp(smooth, _HEAT, values) for values in _COLOURS], -1)
    return np.rint((1 - _SHARE) * view + _SHARE * colour).astype(np.uint8)
