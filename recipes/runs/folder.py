"""Where a run writes, what belongs to it, and the data that it reads."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout

from models.errors import UsageError
from models.staging import STAGED
from recipes.data.clips import ClipStore, DataSource, prepare, warn_of_copies
from recipes.data.corpus import Corpus, FoldSplit
from recipes.data.splits import cross_validation, fold_split, warn_of_unused_folds
from recipes.system.files import lock_now
from recipes.system.problems import check_all


def open_store(
    values: dict, clip_seconds: float, sample_rate: int = 16000, check: Callable[[Corpus], object] = lambda corpus: None
) -> ClipStore:
    """Check and decode the data of a recipe's plain values for a model of that clip length and rate (Hz).

    check: what else the metadata must pass before anything is decoded, beside the recipe's folds.
    """
    store = prepare(
        data_source(values),
        values["cache_folder"],
        sample_rate,
        clip_seconds,
        check=lambda corpus: check_all(partial(check, corpus), partial(splits_of, values, corpus)),
    )
    splits = splits_of(values, store.corpus)
    warn_of_unused_folds(store.corpus, splits)
    warn_of_copies(store, splits)
    return store


def data_source(values: dict) -> DataSource:
    """Where the data of a recipe's plain values come from."""
    return DataSource(
        Path(values["data_folder"]),
        values["subset"],
        columns=values.get("columns") or {},
        download=values.get("download", False),
    )


def splits_of(values: dict, corpus: Corpus) -> tuple[FoldSplit, ...]:
    """The fold splits a recipe asks for: its three lists, or every fold once as test."""
    if values["folds"] == "all":
        return cross_validation(corpus)
    return (fold_split(corpus, values["train_folds"], values["valid_folds"], values["test_folds"]),)


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
