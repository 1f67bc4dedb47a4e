"""What a command shows while it works: a named bar on a terminal, plain lines where the output is a file or a pipe."""

import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType

ESTIMATE_AFTER_SECONDS = 5.0
"""So long a job runs before it says how long it will take; the first steps are slower than the rest."""

WORTH_SAYING_SECONDS = 60.0
"""A job that takes less is not announced."""

_quiet = False


@contextmanager
def quiet(enabled: bool = True) -> Iterator[None]:
    """Within it no bar is shown and no estimate is printed: what `--noprogressbar` asks for."""
    global _quiet
    before = _quiet
    _quiet = enabled or before
    try:
        yield
    finally:
        _quiet = before


def speaks() -> bool:
    """Whether this is the process that speaks for all: torchrun numbers its processes in RANK."""
    return os.environ.get("RANK", "0") == "0"


def say(line: str = "") -> None:
    """Print a line, if this is the process that speaks for all."""
    if speaks():
        print(line, flush=True)


def duration(seconds: float) -> str:
    """A length of time as people say it: "8 s", "3 min", "2 h 5 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


class Bar:
    """Progress of one stage of a job, for use in a `with` statement.

    On a terminal a bar with the stage's name, its steps and the time that is left; it disappears at the end.
    Elsewhere nothing, except that a long job prints one line that says roughly how long it takes.

    Arguments
    ---------
    name: such as "epoch 3/30 train" or "score clean".
    steps: how many calls of `advance` the stage has.
    rounds: how often a stage of this length follows, this one included, as the epochs of a training do.
    """

    def __init__(self, name: str, steps: int, rounds: int = 1):
        self.name, self.steps, self.rounds = name, steps, rounds
        self.done = 0
        self.started = time.monotonic()
        self._announced = self._progress = None
        if speaks() and not _quiet and steps > 0 and sys.stderr.isatty():
            self._progress = _terminal_progress()
            self._progress.start()
            self._task = self._progress.add_task(name, total=steps)

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def advance(self, steps: int = 1) -> None:
        """Tell that some more steps are done."""
        self.done += steps
        if self._progress is not None:
            self._progress.update(self._task, advance=steps)
        if self._announced is None:
            self._announce()

    def close(self) -> None:
        """Remove the bar. Closing twice does nothing."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def _announce(self) -> None:
        """Once the pace is known, print how long all rounds will take, if that is worth saying."""
        elapsed = time.monotonic() - self.started
        if elapsed < ESTIMATE_AFTER_SECONDS or not self.done:
            return
        self._announced = elapsed / self.done * self.steps * self.rounds
        is_news = speaks() and not _quiet and self._announced >= WORTH_SAYING_SECONDS
        if is_news and (self._progress is None or self.rounds > 1):
            repeated = f", {self.rounds} times this stage" if self.rounds > 1 else ""
            print(f"{self.name}: about {duration(self._announced)} in all{repeated}", file=sys.stderr, flush=True)


def track(items: Iterable, name: str, count: int) -> Iterator:
    """The items one after another, with a `Bar` of that name; count: how many items there are."""
    with Bar(name, count) as bar:
        for item in items:
            yield item
            bar.advance()


def _terminal_progress():
    # imported here: only a terminal needs it
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True, refresh_per_second=4)
