"""A run's folder, in which one process works at a time."""

import shutil
from pathlib import Path

from filelock import FileLock, Timeout

from models.errors import UsageError
from models.staging import STAGED
from recipes.system.files import lock_now

_claims: dict[Path, FileLock] = {}


def claim_run(folder: Path) -> None:
    """Keep other processes out of a run's folder until this one ends, and remove what a killed one was writing.

    The system drops the claim with the process. Raises UsageError while another process holds it.
    """
    folder = folder.resolve()
    if folder not in _claims:
        try:
            _claims[folder] = lock_now(folder / ".lock")
        except Timeout as error:
            raise UsageError(
                f"another process is at work in {folder}: wait for it, or pass another --experiment or --seed"
            ) from error
    for leftover in folder.rglob(STAGED + "*"):
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink(missing_ok=True)
