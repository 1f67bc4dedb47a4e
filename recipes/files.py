"""Files that are whole or absent, and work that only one process does at a time."""

import fcntl
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from models.errors import UsageError

logger = logging.getLogger(__name__)


def write_atomically(path: str | Path, data: bytes) -> None:
    """Write `data` so that `path` holds either its old or its new content at every moment.

    Missing parent folders are made.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def exclusive_lock(path: str | Path) -> Iterator[None]:
    """Hold the advisory lock on the file `path`; wait, and say so, while another process holds it.

    The kernel drops the lock when its holder ends, killed or not, so a stale lock cannot exist.

    Raises UsageError when the lock file cannot be made.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a")
    except OSError as error:
        raise UsageError(
            f"The folder {path.parent} cannot be written ({error.strerror}): choose one that can."
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.warning("Waiting for another run that prepares %s.", path.parent)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def name_some(names: list[str], limit: int = 20) -> str:
    """`a, b and c` style list for an error sentence: at most `limit` names, then how many more there are."""
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"
