"""`mindcv COMMAND …`, also as `python -m mindcv`: training and the tools around it."""

import argparse
import importlib.util
import sys

# By full names: MindSpore's compile cache reads these lines and knows no package of a program.
from mindcv.command import quieten
from mindcv.config.options import NAMES_ELSEWHERE as OPTIONS_ELSEWHERE
from mindcv.errors import ConfigError
from mindcv.names import similar
from mindcv.process.entry_point import check_environment, guarded, installation, program
from mindcv.tools import COMMANDS, DOORS, NAMES_ELSEWHERE


def main(words: list[str] | None = None) -> None:
    """Run the command that the words of a command line name.

    Args:
        words: default: those of the process, whose stderr is then kept clean.
    """
    is_own_process, words = words is None, sys.argv[1:] if words is None else words
    if words and words[0] in DOORS:
        door = importlib.import_module(f"{__package__}.{words[0]}")
        door.start(f"{program()} {words[0]}", words[1:])
        return
    with guarded(show_traceback=lambda: "--debug" in words):
        if words[:1] == ["--version"]:
            print(installation())
            return
        check_environment()
        module, arguments = _parse(words)
        if is_own_process and not arguments.debug and not hasattr(module, "STARTS_COMMANDS"):
            quieten()
        module.run(arguments)


def _parse(words: list[str]):
    if words and words[0] not in COMMANDS and not words[0].startswith("-"):
        meant = similar(words[0], COMMANDS, NAMES_ELSEWHERE)
        hint = f"did you mean {' or '.join(meant)}? " if meant else ""
        raise ConfigError(
            f"command line: no command {words[0]!r}; {hint}known: {', '.join(COMMANDS)}"
        )
    parser = _Parser(prog=program(), description=__doc__, allow_abbrev=False)
    parser.add_argument("--version", action="store_true", help="show versions, for a bug report")
    subparsers = parser.add_subparsers(
        dest="command", metavar="COMMAND", required=True, parser_class=_Parser
    )
    module = None
    for name, summary in COMMANDS.items():
        command = subparsers.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        command.add_argument("--debug", action="store_true", help="show the traceback of an error")
        if words and words[0] == name:
            module = importlib.import_module(_module_of(name))
            module.add_arguments(command)
    arguments, rest = parser.parse_known_args(words)
    if rest and not hasattr(module, "TAKES_OPTIONS"):
        known = {text[2:] for text in subparsers.choices[words[0]]._option_string_actions}
        elsewhere = OPTIONS_ELSEWHERE | NAMES_ELSEWHERE
        meant = similar(rest[0].lstrip("-").split("=")[0], known, elsewhere)
        hint = f"; did you mean --{' or --'.join(meant)}?" if meant else ""
        parser.error(f"unrecognized arguments: {' '.join(rest)}{hint}")
    arguments.options = rest  # options of train.py, for a command that takes them
    return module, arguments


def _module_of(command: str) -> str:
    name = f"{__package__}.tools.{command.replace('-', '_')}"
    is_folder = importlib.util.find_spec(name).submodule_search_locations is not None
    return f"{name}.command" if is_folder else name


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        raise ConfigError(f"command line: {message}; {self.prog} --help lists what there is")


if __name__ == "__main__":
    main()
