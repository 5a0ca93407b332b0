"""The errors that a user can cause, each with the exit code of the command."""


class MindCVError(Exception):
    """Base of all errors that end in a readable message instead of a traceback."""

    exit_code = 1


class ConfigError(MindCVError, ValueError):
    """An option, a value or a combination of options that cannot be run."""

    exit_code = 2


class FolderInUse(ConfigError):
    """Another process holds the folder that a command writes to."""


class NonFiniteLossError(MindCVError, ArithmeticError):
    """The training loss became NaN or infinite."""

    exit_code = 3


class DataError(MindCVError, ValueError):
    """Images are missing, unreadable or do not fit the run."""

    exit_code = 4


class WeightsError(MindCVError, ValueError):
    """A checkpoint or a weight file is missing, damaged or belongs to another model."""

    exit_code = 5


class RunFolderError(MindCVError):
    """A file of the run folder, other than a checkpoint, can no longer be written.

    It has the exit code of a checkpoint that cannot be written: the disk is full or gone, and the
    same command continues the run once it is back.
    """

    exit_code = 5


class Interrupted(MindCVError):
    """A signal ended the command, after everything was left in order.

    The exit code is 128 + `number`; the message says where it stopped and how to continue.
    """

    def __init__(self, number: int, message: str):
        super().__init__(message)
        self.exit_code = 128 + number


class RankError(MindCVError):
    """Another process of the run has ended, or cannot be reached.

    `exit_code` is that process's own; `rank` is None if unknown.
    """

    def __init__(self, message: str, exit_code: int = 1, rank: int | None = None):
        super().__init__(message)
        self.exit_code, self.rank = exit_code, rank


def first_line(error: BaseException) -> str:
    """Return the line of a message that says what happened: MindSpore's [ERROR], or the first one.

    An error without a message gives its type.
    """
    lines = (str(error).strip() or type(error).__name__).splitlines()
    marked = (line.removeprefix("[ERROR] ") for line in lines if line.startswith("[ERROR] "))
    return next(marked, lines[0]).strip()
