"""`python -m mindcv design-space`: sample, train and analyze populations of networks; scale one."""

import argparse

from . import analyze, runs, scale, study

# Action -> its module, which has `add_arguments` and `run`, and its line in `--help`.
_ACTIONS = {
    "sample": (study, "draw the population of a study"),
    "run": (runs, "train the population; the same command goes on after an interruption"),
    "analyze": (analyze, "error distributions, best parameters and comparisons of trained spaces"),
    "scale": (scale, "scale a network to other costs"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, (module, summary) in _ACTIONS.items():
        action = actions.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        module.add_arguments(action)


def run(arguments: argparse.Namespace) -> None:
    _ACTIONS[arguments.action][0].run(arguments)
