"""A function that others call when they please, made into one that stands still when it is told to."""

import threading
from collections.abc import Callable


class Turns:
    """Runs a function in a thread of its own and takes turns with it: either of the two works, never both.

    Args:
        work: What is run; whatever it raises is its own to catch. Inside it, `pause` ends its turn.
    """

    def __init__(self, work: Callable[[], None]) -> None:
        self._work, self._ended = work, False
        self._ours, self._its = threading.Semaphore(0), threading.Semaphore(0)
        # Nobody waits for one that is left standing where its process ends.
        self._thread = threading.Thread(target=self._run, name="loop", daemon=True)

    def go_on(self) -> bool:
        """Let the function work until it pauses or ends; return whether it has ended."""
        if self._thread.ident is None:
            self._thread.start()
        else:
            self._its.release()
        self._ours.acquire()
        return self._ended

    def pause(self) -> None:
        """Stand still until it is the function's turn again; called from inside it."""
        self._ours.release()
        self._its.acquire()

    def _run(self) -> None:
        try:
            self._work()
        finally:
            self._ended = True
            self._ours.release()
