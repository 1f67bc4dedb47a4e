"""A run: what a training or a scoring works on, put together once and handed on whole."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from speechbrain.utils.distributed import infer_device

from interpreters.base import Interpreter
from recipes.data.clips import ClipDataset, ClipStore, fold_set
from recipes.data.corpus import FoldSplit, indices

if TYPE_CHECKING:
    from recipes.config.recipe import Recipe, Settings
    from recipes.runs.subject import Subject


def device_of(recipe: "Recipe") -> str:
    """The torch device that a recipe runs on: the one its command line names, else a GPU where there is one."""
    return recipe.run_opts.device or infer_device()


@dataclass(frozen=True, kw_only=True)
class Run:
    """A recipe at work on one split of its data.

    recipe: its plain values are `values`. folder: where the run writes. objects: what the recipe's YAML builds, such
    as the model and the optimiser. results_name, longer: what `recipes.runs.opening.open_run` found in the folder: the
    name below it of where scores go, and how epochs and schedule grew since training began.
    """

    recipe: "Recipe"
    folder: Path
    store: ClipStore
    split: FoldSplit
    objects: "Settings"
    results_name: str = ""
    longer: tuple[str, ...] = ()

    @property
    def results_folder(self) -> Path:
        """Where scores go: the run's folder, or one inside it for test clips that are not the run's own."""
        return self.folder / self.results_name

    @property
    def kind(self) -> str:
        """Of the bundle that the run leaves under that name: "classifier" or "interpreter"."""
        return "classifier"

    @property
    def trainable(self) -> bool:
        """Whether the run has something to train."""
        return True

    @property
    def values(self) -> dict:
        """The recipe's plain values, such as `batch_size`."""
        return self.recipe.values

    @property
    def device(self) -> str:
        return device_of(self.recipe)

    @property
    def test_only(self) -> bool:
        """Whether the command line forbids training."""
        return self.recipe.run_opts.test_only

    def folds(self, part: str) -> tuple[int, ...]:
        """The folds of a part of the split: "train", "valid" or "test"."""
        return getattr(self.split, part)

    def clips(self, part: str) -> list[int]:
        """Positions in the corpus of the clips of a part of the split."""
        return indices(self.store.corpus, self.folds(part))

    def dataset(self, part: str) -> ClipDataset:
        """The clips of a part of the split. Raises UsageError for training clips that cannot fill one batch."""
        return fold_set(self.store, self.folds(part), self.values.get("batch_size", 1), training=part == "train")

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps of one epoch, at least 1."""
        batches = len(self.dataset("train")) // self.values["batch_size"]
        return max(1, batches // self.values["grad_accumulation_factor"])


@dataclass(frozen=True, kw_only=True)
class InterpreterRun(Run):
    """A run that explains a classifier.

    model_yaml: the recipe's interpreter as the document of its bundle.
    """

    subject: "Subject"
    interpreter: Interpreter
    model_yaml: str

    @property
    def kind(self) -> str:
        return "interpreter"

    @property
    def trainable(self) -> bool:
        return self.interpreter.trainable
