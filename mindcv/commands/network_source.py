"""Where a command's network comes from: a checkpoint, or published weights of a named model."""

from argparse import ArgumentParser, Namespace

from ..errors import ConfigError
from ..program import import_user_module
from ..weights import Metadata
from .values import at_least


def add_network_arguments(parser: ArgumentParser) -> None:
    """Add the options that `build_network` reads."""
    group = parser.add_argument_group("network")
    group.add_argument("--ckpt_path", metavar="FILE", help="weights; may tell model and classes")
    group.add_argument("--model", metavar="NAME", help="needed where the file does not tell it")
    group.add_argument("--num_classes", type=at_least(1), help="of a file that does not tell them")
    group.add_argument(
        "--pretrained",
        metavar="SOURCE",
        nargs="?",
        const="",
        help="published weights of --model; SOURCE: whose",
    )
    group.add_argument("--ema", action="store_true", help="the averaged weights of --ckpt_path")
    group.add_argument("--import_module", help="module or .py file that registers your own models")


def check_network_arguments(arguments: Namespace) -> None:
    """Refuse options that name no weights, or two; needs no MindSpore.

    Raises:
        ConfigError: see above.
    """
    published = arguments.pretrained is not None
    if published == bool(arguments.ckpt_path):
        many = "not both" if published else "neither was given"
        raise ConfigError(
            "command line: the weights come from --ckpt_path FILE or from "
            f"--model NAME --pretrained; {many}"
        )
    if published and not arguments.model:
        raise ConfigError("command line: --pretrained needs --model NAME")
    if published and arguments.num_classes:
        raise ConfigError("command line: published weights bring their classes; no --num_classes")


def build_network(arguments: Namespace):
    """Return the network in evaluation mode, and the `Metadata` of its weights.

    Raises:
        ConfigError: unknown model.
        WeightsError: the weights are missing, damaged or of another model.
    """
    from ..models import create_model_from_file

    if arguments.import_module:
        import_user_module(arguments.import_module)
    if arguments.pretrained is None:
        return create_model_from_file(
            arguments.ckpt_path, arguments.model or "", arguments.num_classes, arguments.ema
        )
    return _published_network(arguments.model, arguments.pretrained)


def _published_network(name: str, source: str):
    from ..models import create_model, find_published

    weights = find_published(name, source or True)
    network = create_model(name, num_classes=weights.num_classes, pretrained=weights.source)
    metadata = Metadata(
        weights.model, num_classes=weights.num_classes, preprocessing=weights.preprocessing
    )
    return network.set_train(False), metadata
