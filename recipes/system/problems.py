"""Several mistakes told at once."""

from collections.abc import Callable, Iterable

from models.errors import UsageError


def check_all(*checks: Callable[[], object], earlier: Iterable[str] = ()) -> None:
    """Run every check and raise one UsageError that holds the earlier sentences and those of all that raised."""
    problems = list(earlier)
    for check in checks:
        try:
            check()
        except UsageError as error:
            problems.append(str(error))
    if problems:
        raise UsageError("; ".join(dict.fromkeys(problems)))
