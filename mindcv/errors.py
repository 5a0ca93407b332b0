"""The errors a user can cause, and the exit code each one ends a command with."""


class MindCVError(Exception):
    """Base of every error that ends in a readable message instead of a traceback."""

    exit_code = 1


class ConfigError(MindCVError, ValueError):
    """A key, a value or a combination of options that cannot be run."""

    exit_code = 2


class NonFiniteLossError(MindCVError, ArithmeticError):
    """The training loss became NaN or infinite."""

    exit_code = 3


class DataError(MindCVError, ValueError):
    """The images are missing, unreadable or do not fit the run."""

    exit_code = 4


class WeightsError(MindCVError, ValueError):
    """A checkpoint or a weight file is missing, damaged or belongs to another model."""

    exit_code = 5


class RunFolderError(MindCVError):
    """A file of the run folder, other than a checkpoint, can no longer be written.

    The code is that of a checkpoint that cannot be written: the disk is full or gone, and the same
    command goes on when it is back.
    """

    exit_code = 5


class Interrupted(MindCVError):
    """A signal ended the command, after it had left everything in order.

    Args:
        number: the signal; the exit code is 128 more.
        message: where it stopped and how to go on.
    """

    def __init__(self, number: int, message: str):
        super().__init__(message)
        self.exit_code = 128 + number


class RankError(MindCVError):
    """Another process of the run ended, or cannot be reached.

    Args:
        message: which one and why.
        exit_code: that process's own.
        rank: the process; None: not known.
    """

    def __init__(self, message: str, exit_code: int = 1, rank: int | None = None):
        super().__init__(message)
        self.exit_code, self.rank = exit_code, rank
