"""`mindcv recipes`: list the packaged recipes, or print one to start from."""

from argparse import ArgumentParser, Namespace

from ..config import recipes
from ..errors import ConfigError
from ..process.tables import aligned


def add_arguments(parser: ArgumentParser) -> None:
    parser.epilog = (
        "A recipe is used by its name, `mindcv train --config NAME`, and changed by options after "
        "it, or in a copy: `mindcv recipes NAME > my_recipe.yaml`."
    )
    parser.add_argument(
        "recipe", nargs="?", metavar="NAME", help="print this recipe (default: list all)"
    )


def run(arguments: Namespace) -> None:
    if arguments.recipe:
        print(recipes.named(arguments.recipe).read_text(encoding="utf-8"), end="")
        return
    rows = {name: recipes.summary(path) for name, path in recipes.packaged().items()}
    if not rows:
        raise ConfigError("no recipe is installed: the folder configs of this library is missing")
    print(*aligned([*rows.items()], left=(0, 1)), sep="\n")
