"""Write while the training goes on."""

import threading
from collections.abc import Callable


class BackgroundWriter:
    """Runs one job at a time in a thread; what goes wrong in it is raised at the next call.

    The thread is not a daemon: Python waits for it at exit, so that a save is finished even where
    the training ends with an error.
    """

    def __init__(self):
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None

    def start(self, job: Callable[[], None]) -> None:
        """Wait for the job before, then run this one.

        Raises:
            Exception: what the job before raised; this one is not run then.
        """
        self.wait()
        self._thread = threading.Thread(target=self._run, args=(job,), name="checkpoint")
        self._thread.start()

    def check(self) -> None:
        """Raise what the job raised, if it has got so far; wait for nothing.

        Raises:
            Exception: what the job raised.
        """
        if self._error is not None:
            self.wait()

    def wait(self) -> None:
        """Wait until nothing is being written.

        Raises:
            Exception: what the job raised.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _run(self, job: Callable[[], None]) -> None:
        try:
            job()
        except Exception as error:
            self._error = error
