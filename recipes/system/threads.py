"""Work on many files in threads, with the sentences of all that fail in one."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from models.errors import UsageError
from recipes.system.console import track
from recipes.system.files import name_some


def run_all(function: Callable, items: Sequence, workers: int, description: str = "") -> list:
    """Call `function` on every item in threads (libsndfile, SciPy and hashlib release the lock of Python).

    Results come in the order of `items`. Raises one UsageError that holds the sentences of all the items
    whose call raised one, or that could not be opened.
    """

    def attempt(item: object) -> object:
        try:
            return function(item)
        except (UsageError, FileNotFoundError, PermissionError) as error:
            return error

    silent = not description or len(items) < 2
    with ThreadPoolExecutor(workers) as executor:
        try:
            results = executor.map(attempt, items)
            results = list(results if silent else track(results, description, len(items)))
        except BaseException:
            executor.shutdown(cancel_futures=True)
            raise
    refuse_failures([result for result in results if isinstance(result, Exception)], len(items))
    return results


def refuse_failures(failures: Sequence[Exception], count: int) -> None:
    """Raise one UsageError with the sentences of all the failures among `count` files."""
    if failures:
        sentences = [str(failure).rstrip(".") for failure in failures]
        raise UsageError(f"{len(failures)} of {count} files cannot be used: {name_some(sentences)}.")
