"""Where a run writes, what belongs to it, and the data that it reads."""

import fcntl
import importlib.util
import re
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING

from models.errors import UsageError
from models.staging import STAGED
from recipes.config.recipe import Recipe
from recipes.config.rules import check_all
from recipes.data.clips import ClipStore, DataSource, prepare
from recipes.data.corpus import Corpus, FoldSplit, cross_validation, fold_split
from recipes.system.files import _lock_file, write_atomically
from recipes.system.parallel import on_main

if TYPE_CHECKING:
    from speechbrain.utils.train_logger import TrainLogger

UNTRAINED_KEYS = (
    "contamination",
    "snr_db",
    "report_clips",
    "eval_batch_size",
    "eval_precision",
    "audio",
    "cache_folder",
    "tensorboard",
    "trust",
    "ckpt_interval_minutes",
)

TEST_KEYS = (*UNTRAINED_KEYS, "data_folder", "noise_folder")


def open_store(
    values: dict, clip_seconds: float, sample_rate: int = 16000, check: Callable[[Corpus], object] = lambda corpus: None
) -> ClipStore:
    """Check and decode the data of a recipe's plain values for a model of that clip length and rate (Hz).

    check: what else the metadata must pass before anything is decoded, beside the recipe's folds.
    """
    source = DataSource(Path(values["data_folder"]), values["subset"], download=values.get("download", False))
    return prepare(
        source,
        values["cache_folder"],
        sample_rate,
        clip_seconds,
        check=lambda corpus: check_all(partial(check, corpus), partial(splits_of, values, corpus)),
    )


def splits_of(values: dict, corpus: Corpus) -> tuple[FoldSplit, ...]:
    """The fold splits a recipe asks for: its three lists, or every fold once as test."""
    if values["folds"] == "all":
        return cross_validation(corpus)
    return (fold_split(corpus, values["train_folds"], values["valid_folds"], values["test_folds"]),)


def run_folder(values: dict, split_index: int | None = None) -> Path:
    """`<output_folder>/<experiment>/<seed>`, or a `fold<k>` folder inside it during cross-validation."""
    folder = Path(values["output_folder"]) / values["experiment"] / str(values["seed"])
    return folder if split_index is None else folder / f"fold{split_index + 1}"


def open_run(recipe: Recipe, folder: Path) -> tuple["TrainLogger", ...]:
    """Make the run's folder, keep the resolved configuration in it, and return its training logs.

    train_log.txt always; TensorBoard's files under tensorboard/ where the recipe says `tensorboard: true`.

    Keys that leave the trained weights alone (`UNTRAINED_KEYS`) may change between runs in one folder; with --test_only
    so may the folders of sounds.
    Raises UsageError when the folder holds checkpoints of another configuration: the two must not be mixed; and while
    another process is at work in it.
    """
    # not at the top of this file: this import warns that torchvision is missing, which a command silences first
    from speechbrain.utils.train_logger import FileTrainLogger, TensorboardLogger

    on_main(_occupy, folder, recipe)
    logs: tuple[TrainLogger, ...] = (FileTrainLogger(str(folder / "train_log.txt")),)
    if recipe.values.get("tensorboard"):
        if importlib.util.find_spec("tensorboard") is None:
            raise UsageError("tensorboard=true needs the package tensorboard: pip install 'earwitness[tensorboard]'")
        logs += (TensorboardLogger(str(folder / "tensorboard")),)
    return logs


def _occupy(folder: Path, recipe: Recipe) -> None:
    claim_run(folder)
    kept, left_out = folder / "hyperparams.yaml", TEST_KEYS if recipe.run_opts.test_only else UNTRAINED_KEYS
    begun = any((folder / "save").glob("CKPT*")) and kept.is_file()
    if begun and training_part(kept.read_text(encoding="utf-8"), left_out) != training_part(recipe.text, left_out):
        raise UsageError(
            f"{folder} holds checkpoints of another configuration; give this one another --experiment or --seed, "
            "or remove that folder"
        )
    write_atomically(kept, recipe.text.encode())


def training_part(text: str, left_out: Sequence[str] = UNTRAINED_KEYS) -> str:
    """A resolved recipe without blank lines, comments and the top-level keys that are left out."""
    text = re.sub(r"^\s*(#.*)?\n", "", text, flags=re.MULTILINE)
    blocks = re.split(r"^(?=[A-Za-z_])", text, flags=re.MULTILINE)
    return "".join(block for block in blocks if block.partition(":")[0] not in left_out)


_runs: dict[Path, IO] = {}


def claim_run(folder: Path) -> None:
    """Keep other processes out of a run's folder until this one ends, and remove what a killed one was writing.

    The kernel drops the claim with the process. Raises UsageError while another process holds it.
    """
    folder = folder.resolve()
    if folder not in _runs:
        file = _lock_file(folder / ".lock")
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            raise UsageError(
                f"another process is at work in {folder}: wait for it, or pass another --experiment or --seed"
            ) from error
        _runs[folder] = file
    for leftover in folder.rglob(STAGED + "*"):
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink(missing_ok=True)
