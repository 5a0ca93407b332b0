"""Options, argument types and checks that the commands share, and the network they name."""

import math
import os
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from ..config import Config
from ..config.options import OPTIONS
from ..config.settings import settings_of, shaping
from ..config.values import convert
from ..errors import ConfigError
from ..process.entry_point import import_user_module


def add_model_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--image_size", type=at_least(8), default=224, help="side of the image, pixels"
    )
    add_import_module(parser)


def add_import_module(parser) -> None:
    parser.add_argument(
        "--import_module", type=file_path, help="module or .py file that registers your own models"
    )


def file_path(text: str) -> str:
    """Expand a leading ~ to the user's home, as the options of train.py do."""
    return os.path.expanduser(text)


def add_files(parser, required: bool = False, **options: str) -> None:
    """Add options that take a path each: name -> help."""
    for name, text in options.items():
        parser.add_argument(
            f"--{name}", type=file_path, metavar="FILE", required=required, help=text
        )


def add_images(parser, nargs: str = "+", text: str = "files, and folders of files") -> None:
    parser.add_argument("images", nargs=nargs, type=file_path, metavar="IMAGE", help=text)


def add_force(parser, text: str = "replace an existing file") -> None:
    parser.add_argument("--force", action="store_true", default=None, help=text)


def yes_or_no(text: str) -> bool:
    """Parse True or False in any spelling that the options of train.py accept."""
    try:
        return convert(text, bool)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None


def _pretrained(text: str) -> bool | str:
    return convert(text, bool | str)  # as in train.py: True, False or a source


def at_least(low: int) -> Callable[[str], int]:
    """Return a parser of integers from `low` on."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = None
        if value is None or value < low:
            raise ArgumentTypeError(f"{text!r} is not a whole number of at least {low}")
        return value

    return read


def finite(words: str, holds: Callable[[float], bool]) -> Callable[[str], float]:
    """Return a parser of finite numbers for which `holds` is true, as `words` say."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and holds(value)):
            raise ArgumentTypeError(f"{text!r} is not a number {words}")
        return value

    return read


positive = finite("above 0", lambda value: value > 0)
share = finite("from 0 to 1", lambda value: 0 <= value <= 1)


def check_output(
    option: str, path: str, suffixes: Sequence[str], force: bool, inputs: Sequence[str] = ()
) -> None:
    """Refuse, before any work, an output path that cannot be written.

    Args:
        suffixes: allowed endings; empty: any.
        force: allow replacing an existing file.
        inputs: files that must not be overwritten.
    """
    place = Path(path)
    if os.path.realpath(path) in map(os.path.realpath, inputs):
        raise ConfigError(f"{option} {path!r} is an input file; choose another name")
    if suffixes and not (path.endswith(tuple(suffixes)) and place.stem):
        raise ConfigError(f"{option} {path!r}: expected a name ending in {' or '.join(suffixes)}")
    if not place.parent.is_dir():
        raise ConfigError(f"{option} {path!r}: there is no folder {str(place.parent)!r}")
    if place.is_dir():
        raise ConfigError(f"{option} {path!r} is a folder; give the name of a file")
    if place.exists() and not force:
        raise ConfigError(f"{option} {path!r} exists already; choose another name or add --force")
    if not os.access(place.parent, os.W_OK):
        raise ConfigError(f"{option} {path!r}: the folder {str(place.parent)!r} is not writable")


def check_written(arguments: Namespace, option: str, suffixes: Sequence[str]) -> None:
    """Check the option of a file, which may be left out; then --force means nothing."""
    if path := getattr(arguments, option):
        check_output(f"--{option}", path, suffixes, bool(arguments.force))
    else:
        reason = f"replaces the file of --{option}, and none is written"
        refuse_idle(arguments, ("force",), reason)


def check_contact_sheet(arguments: Namespace) -> None:
    """Check the options --contact_sheet and --font, as `check_output` does."""
    if arguments.contact_sheet:
        check_output("contact_sheet", arguments.contact_sheet, (".png",), force=True)
    else:
        refuse_idle(arguments, ("font",), "is of the contact sheet; add --contact_sheet FILE")


def add_settings(parser) -> None:
    """Add the options of train.py that `settings_of` reads besides --model."""
    for name in ("regnet", "anynet"):
        text = OPTIONS[name].metadata["help"].split("; in yaml")[0]
        parser.add_argument(f"--{name}", metavar="SETTINGS", help=text)


# The options of `add_network_arguments`.
NETWORK_OPTIONS = (
    *("ckpt_path", "model", "regnet", "anynet", "num_classes"),
    *("pretrained", "ema", "image_size", "import_module"),
)


def refuse_idle(arguments: Namespace, names: Iterable[str], reason: str) -> None:
    """Raise a ConfigError for an option that was given and changes nothing; None: not given."""
    for name in names:
        if getattr(arguments, name) is not None:
            raise ConfigError(f"command line: --{name} {reason}")


def planned_network(config: Config):
    """Return the `NetworkPlan` of the network that a config names, for square images.

    Raises:
        ConfigError: it names none of the family, or no single image size.
    """
    from ..design_space.published import family_name, plan_model, unknown_model  # imports NumPy

    if not config.model:
        raise ConfigError("command line: --model NAME is missing; `list` shows the models")
    name = family_name(config.model)
    if name is None:
        raise ConfigError(f"command line: {unknown_model(config.model, takes_own=False)}")
    if not isinstance(config.image_resize, int):
        raise ConfigError(
            f"image_resize is {config.image_resize}, and costs are counted for square images; add "
            "--image_size N"
        )
    return plan_model(
        name,
        num_classes=config.num_classes or 1000,
        in_channels=config.in_channels,
        **shaping(settings_of(config, needed=True)),
    )


def add_network_arguments(parser: ArgumentParser) -> None:
    """Add the options that `build_network` reads."""
    group = parser.add_argument_group("network")
    group.add_argument(
        "--ckpt_path", type=file_path, metavar="FILE", help="weights; may name model and classes"
    )
    group.add_argument("--model", metavar="NAME", help="needed where the file does not name it")
    add_settings(group)
    group.add_argument("--num_classes", type=at_least(1), help="of a file that does not name them")
    group.add_argument(
        "--pretrained",
        type=_pretrained,
        metavar="SOURCE",
        nargs="?",
        const=True,
        help="published weights of --model; SOURCE: whose",
    )
    add_ema_argument(group)
    group.add_argument("--image_size", type=at_least(8), help="default: the weights' own")
    add_import_module(group)


def add_ema_argument(parser) -> None:
    parser.add_argument(
        "--ema",
        type=yes_or_no,
        nargs="?",
        const=True,
        metavar="BOOL",
        help="the averaged weights of a file, False: the raw ones (default: the averaged ones, if "
        "the file holds any)",
    )


def check_network_arguments(arguments: Namespace, classifies: bool = False) -> None:
    """Check the options of `add_network_arguments` without importing MindSpore.

    Args:
        classifies: also refuse published weights without a classifier.
    """
    from ..design_space.published import family_name  # lr and supervise do without numpy
    from ..hub import choose_weights, is_repository, require_classifier

    if is_repository(arguments.model):  # as timm writes it
        arguments.model, arguments.pretrained = "", arguments.model
    settings_of(arguments, place="command line: ")
    published = bool(arguments.pretrained)
    if published == bool(arguments.ckpt_path):
        many = "not both" if published else "neither was given"
        raise ConfigError(
            "command line: the weights come from --ckpt_path FILE or from "
            f"--model NAME --pretrained; {many}"
        )
    names_model = is_repository(arguments.pretrained)
    if published and not (arguments.model or names_model):
        raise ConfigError("command line: --pretrained needs --model NAME")
    if published:
        refuse_idle(arguments, ("ema",), "is for --ckpt_path; published weights are one set")
    if published and arguments.num_classes:
        raise ConfigError("command line: published weights bring their classes; no --num_classes")
    name = family_name(arguments.model or "") if published else None
    if name or names_model:
        weights = choose_weights(arguments.model or "", name or "", arguments.pretrained)
        if classifies:
            require_classifier(weights)


def build_network(arguments: Namespace):
    """Return the network in evaluation mode, the `Metadata` of its weights, and which they are."""
    from ..models import canonical_name, create_model_from_file, create_published_model
    from ..weights import describe_choice, read_weights

    import_user_module(arguments.import_module)
    name = canonical_name(arguments.model) if arguments.model else ""
    if not arguments.pretrained:
        file = read_weights(arguments.ckpt_path)
        kind, line = describe_choice(file, arguments.ema)
        print(line, flush=True)
        source = f"{kind} weights of {Path(file.path).name}"
        network, metadata = create_model_from_file(
            file,
            name,
            arguments.num_classes,
            arguments.ema,
            options=shaping(settings_of(arguments)),
        )
    else:
        network, metadata, weights = create_published_model(arguments.model, arguments.pretrained)
        print(weights.describe(), flush=True)
        source = f"published by {weights.source}"
    if len(metadata.preprocessing.mean) != metadata.in_channels:
        raise ConfigError(
            f"weight file {arguments.ckpt_path!r} does not tell mean and std of its images of "
            f"{metadata.in_channels} channels; a checkpoint of train.py does, and validate.py "
            "takes them as options"
        )
    if arguments.image_size:
        used = replace(metadata.preprocessing, image_size=arguments.image_size)
        metadata = replace(metadata, preprocessing=used)
    return network.set_train(False), metadata, source
