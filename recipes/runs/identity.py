"""What a run is: whether a folder's earlier work may go on under the configuration that is asked for now."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from models.errors import UsageError
from recipes.config.meaning import meaning
from recipes.config.recipe import Recipe
from recipes.runs.folder import claim_run
from recipes.runs.run import Run
from recipes.system.files import write_atomically
from recipes.system.parallel import on_main

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


def open_run(run: Run) -> None:
    """Make the run's folder and keep the resolved configuration in it.

    Keys that leave the trained weights alone (`UNTRAINED_KEYS`) may change between runs in one folder; with --test_only
    so may the folders of sounds.
    Raises UsageError when the folder holds checkpoints of another configuration: the two must not be mixed; and while
    another process is at work in it.
    """
    if run.values.get("tensorboard") and importlib.util.find_spec("tensorboard") is None:
        raise UsageError("tensorboard=true needs the package tensorboard: pip install 'earwitness[tensorboard]'")
    on_main(_occupy, run.folder, run.recipe)


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


def training_part(text: str, left_out: Sequence[str] = UNTRAINED_KEYS) -> dict[str, object]:
    """What a resolved recipe means for the trained weights: its `meaning` without the keys that are left out."""
    return {key: value for key, value in meaning(text).items() if key not in left_out}
