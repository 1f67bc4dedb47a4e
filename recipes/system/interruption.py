"""SIGTERM and Ctrl-C: a training finishes its step, saves a checkpoint and leaves; anything else leaves at once."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(BaseException):
    """A signal that asks the process to end; `code` is its customary exit code, 128 + the signal's number."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.code = 128 + number


_deferring = False
_pending: int | None = None


def raise_on_signals() -> None:
    """From now on SIGTERM and Ctrl-C raise `Interrupted` in the main thread."""
    for number in SIGNALS:
        signal.signal(number, _receive)


def _receive(number: int, frame: object) -> None:
    global _pending
    if _deferring and _pending is None:
        _pending = number
        return
    raise Interrupted(number)


@contextmanager
def deferred() -> Iterator[None]:
    """Within it the first signal waits until `leave_if_asked` or the end; a second one does not."""
    global _deferring, _pending
    _deferring = True
    try:
        yield
        leave_if_asked()
    finally:
        _deferring, _pending = False, None


def asked() -> bool:
    """Whether a signal waits."""
    return _pending is not None


def leave_if_asked() -> None:
    """Raise `Interrupted` if a signal waits."""
    if _pending is not None:
        raise Interrupted(_pending)
