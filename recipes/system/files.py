"""Files that are whole or absent, and work that only one process does at a time."""

import csv
import io
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from models.errors import UsageError
from models.staging import STAGED

logger = logging.getLogger(__name__)


def write_atomically(path: str | Path, data: bytes) -> None:
    """Write `data` so that `path` holds either its old or its new content at every moment, after a power cut too.

    Missing parent folders are made. Raises UsageError when the disk is full or the folder cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f"{STAGED}{os.getpid()}-{threading.get_ident()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def csv_of(rows: list[dict]) -> bytes:
    """A CSV file of rows that have the keys of the first; numbers with six digits."""
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: f"{v:.6g}" if isinstance(v, float) else v for key, v in row.items()} for row in rows)
    return stream.getvalue().encode()


def unwritable(path: str | Path, error: Exception) -> UsageError:
    """The sentence for a write that the system refused."""
    reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
    return UsageError(f"{path} cannot be written ({reason}): make room there, or choose a folder that can be written")


def lock_now(path: str | Path) -> FileLock:
    """Lock the file `path` for this process, which keeps the lock until it ends or the returned object is released.

    The system drops the lock when its holder ends, killed or not, so that a stale lock cannot exist.

    Raises `filelock.Timeout` while another process holds it, and UsageError when the file cannot be made.
    """
    path = Path(path)
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=False)
    except Timeout:
        raise
    except (OSError, NotImplementedError) as error:
        raise unwritable(path.parent, error) from error
    return lock


@contextmanager
def exclusive_lock(path: str | Path) -> Iterator[None]:
    """Hold the lock on the file `path`; wait, and say so, while another process holds it.

    Raises UsageError when the lock file cannot be made.
    """
    try:
        lock = lock_now(path)
    except Timeout:
        logger.warning("Waiting for another run that prepares %s.", Path(path).parent)
        lock = FileLock(path)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def name_some(names: list[str], limit: int = 20) -> str:
    """`a, b and c` style list for an error sentence: at most `limit` names, then how many more there are.

    A name that would break the line, or tell a terminal what to do, is shown as Python writes it.
    """
    shown = ", ".join(name if name.isprintable() else repr(name) for name in names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"


def check_file(path: str | Path) -> Path:
    """The path as such. Raises UsageError where no file is, and for a name that cannot be printed."""
    path = Path(path)
    if not str(path).isprintable():
        raise UsageError(f"{str(path)!r} has characters that cannot be printed in its name: rename it.")
    if not path.is_file():
        raise UsageError(f"{path} does not exist or is not a file: give the path of a sound file.")
    return path
