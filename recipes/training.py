"""What both Brains share: where a run writes, exact resumption, choosing the best epoch, loading clips."""

import importlib.util
import math
import os
import pickle
import random
import re
import shutil
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import speechbrain as sb
import torch
from speechbrain.dataio.sampler import ReproducibleRandomSampler
from speechbrain.utils.checkpoints import Checkpoint, Checkpointer
from speechbrain.utils.distributed import ddp_barrier, if_main_process
from speechbrain.utils.epoch_loop import EpochCounter
from speechbrain.utils.train_logger import FileTrainLogger, TensorboardLogger, TrainLogger
from torch.utils.data import BatchSampler

from models.bundle import STAGED
from models.errors import UsageError
from recipes.config import Recipe, Settings
from recipes.esc50 import (
    ClipDataset,
    ClipStore,
    Corpus,
    FoldSplit,
    collate,
    cross_validation,
    fold_split,
    indices,
    prepare,
)
from recipes.files import claim_run, unwritable, write_atomically
from recipes.interruption import Interrupted, asked, deferred, leave_if_asked
from recipes.parallel import Share, gather, on_main, rank, replicate
from recipes.rules import check_all

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
RUN_KEYS = (
    "precision",
    "eval_precision",
    "max_grad_norm",
    "grad_accumulation_factor",
    "ckpt_interval_minutes",
)


@dataclass(frozen=True)
class Selection:
    """The validation metric that chooses the epoch: the one name that is logged, saved and searched for."""

    name: str
    larger_is_better: bool

    @property
    def keys(self) -> dict:
        return {"max_key" if self.larger_is_better else "min_key": self.name}


def open_store(
    values: dict, clip_seconds: float, sample_rate: int = 16000, check: Callable[[Corpus], object] = lambda corpus: None
) -> ClipStore:
    """Check and decode the data of a recipe's plain values for a model of that clip length and rate (Hz).

    check: what else the metadata must pass before anything is decoded, beside the recipe's folds.
    """
    folders = (values["data_folder"], values["cache_folder"])
    return prepare(
        *folders,
        sample_rate,
        clip_seconds,
        values["subset"],
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


def open_run(recipe: Recipe, folder: Path) -> tuple[TrainLogger, ...]:
    """Make the run's folder, keep the resolved configuration in it, and return its training logs.

    train_log.txt always; TensorBoard's files under tensorboard/ where the recipe says `tensorboard: true`.

    Keys that leave the trained weights alone (`UNTRAINED_KEYS`) may change between runs in one folder.
    Raises UsageError when the folder holds checkpoints of another configuration: the two must not be mixed; and while
    another process is at work in it.
    """
    on_main(_occupy, folder, recipe)
    logs: tuple[TrainLogger, ...] = (FileTrainLogger(str(folder / "train_log.txt")),)
    if recipe.values.get("tensorboard"):
        if importlib.util.find_spec("tensorboard") is None:
            raise UsageError("tensorboard=true needs the package tensorboard: pip install 'earwitness[tensorboard]'")
        logs += (TensorboardLogger(str(folder / "tensorboard")),)
    return logs


def _occupy(folder: Path, recipe: Recipe) -> None:
    claim_run(folder)
    kept = folder / "hyperparams.yaml"
    begun = any((folder / "save").glob("CKPT*")) and kept.is_file()
    if begun and training_part(kept.read_text(encoding="utf-8")) != training_part(recipe.text):
        raise UsageError(
            f"{folder} holds checkpoints of another configuration; give this one another --experiment or --seed, "
            "or remove that folder"
        )
    write_atomically(kept, recipe.text.encode())


def training_part(text: str) -> str:
    """A resolved recipe without blank lines, comments and the top-level keys that leave the trained weights alone."""
    text = re.sub(r"^\s*(#.*)?\n", "", text, flags=re.MULTILINE)
    blocks = re.split(r"^(?=[A-Za-z_])", text, flags=re.MULTILINE)
    return "".join(block for block in blocks if block.partition(":")[0] not in UNTRAINED_KEYS)


def loader_options(batch_size: int, shuffle: bool = False) -> dict:
    """DataLoader options: clips come from one memory map, so worker processes would only add a copy."""
    return {
        "batch_size": batch_size,
        "shuffle": shuffle,
        "drop_last": shuffle,
        "collate_fn": collate,
        "pin_memory": torch.cuda.is_available(),
    }


def fold_set(store: ClipStore, folds: tuple[int, ...], batch_size: int, training: bool = False) -> ClipDataset:
    """The clips of some folds. Raises UsageError when a training set cannot fill one batch."""
    dataset = ClipDataset(store, indices(store.corpus, folds))
    if training and len(dataset) < batch_size:
        raise UsageError(f"batch_size={batch_size} is larger than the {len(dataset)} training clips; make it smaller")
    return dataset


def run_options(settings: Settings) -> dict:
    """Those of SpeechBrain's run options that a recipe sets."""
    return {key: settings[key] for key in RUN_KEYS if key in settings}


def seed_step(seed: int, epoch: int, step: int) -> None:
    """Make every random draw of a training step follow from these three, so that a resumed run repeats it exactly.

    Seeds python, numpy and torch, because SpeechBrain's augmentations draw from all of them. A checkpoint of the
    generators' states would not do: every iterator over a loader draws from torch before the first batch. Each of
    several processes has draws of its own.
    """
    mixed = int(np.random.SeedSequence([seed, epoch, step, *([rank()] if rank() else [])]).generate_state(1)[0])
    random.seed(mixed)
    np.random.seed(mixed)  # noqa: NPY002  the global state is what others draw from
    torch.manual_seed(mixed)


@sb.utils.checkpoints.register_checkpoint_hooks
class Stopwatch:
    """Seconds of work on a run, over all the processes that resumed it; saved with every checkpoint."""

    def __init__(self):
        self._before, self._started = 0.0, time.monotonic()

    @property
    def seconds(self) -> float:
        return self._before + time.monotonic() - self._started

    @sb.utils.checkpoints.mark_as_saver
    def save(self, path):
        torch.save({"seconds": self.seconds}, path)

    @sb.utils.checkpoints.mark_as_loader
    def load(self, path, end_of_epoch=False):
        del end_of_epoch
        self._before, self._started = torch.load(path, weights_only=True)["seconds"], time.monotonic()


class WholeCheckpointer(Checkpointer):
    """SpeechBrain's Checkpointer, except that a checkpoint appears whole or not at all.

    SpeechBrain writes the file that makes a folder a checkpoint before the parameters, so that a process killed in
    between leaves a checkpoint without them. Here the folder gets its name when everything is on the disk.
    """

    def _new_checkpoint_dirpath(self):
        path = super()._new_checkpoint_dirpath()
        return path.with_name(STAGED + path.name)

    def save_checkpoint(self, *given, **options):
        """Raises UsageError when the disk is full or the folder cannot be written; older checkpoints stay."""
        try:
            saved = super().save_checkpoint(*given, **options)
            if if_main_process():
                saved = _publish(saved)
        except (OSError, RuntimeError) as error:
            # torch tells a full disk with a RuntimeError of the writer of its ZIP files
            if not isinstance(error, OSError) and "inline_container" not in str(error):
                raise
            for staged in self.checkpoints_dir.glob(STAGED + "*"):
                shutil.rmtree(staged, ignore_errors=True)
            raise unwritable(self.checkpoints_dir, error) from error
        ddp_barrier()
        return saved

    def delete_checkpoints(
        self, *, num_to_keep=1, min_keys=None, max_keys=None, importance_keys=(), ckpt_predicate=None, **unused
    ):
        """As SpeechBrain's, except that a folder loses its name before its files."""
        orders = [{"min_key": key} for key in min_keys or ()] + [{"max_key": key} for key in max_keys or ()]
        orders += [{"importance_key": key} for key in importance_keys]
        doomed: set[Path] = set()
        for order in orders:
            doomed |= {one.path for one in self.find_checkpoints(**order, ckpt_predicate=ckpt_predicate)}
        for order in orders:
            kept = self.find_checkpoints(**order, ckpt_predicate=ckpt_predicate, max_num_checkpoints=num_to_keep)
            doomed -= {one.path for one in kept}
        ddp_barrier()
        if if_main_process():
            for path in doomed:
                shutil.rmtree(path.rename(path.with_name(STAGED + path.name)))
        ddp_barrier()

    def load_checkpoint(self, checkpoint):
        """Raises UsageError when a file of it is missing, damaged or of another network."""
        try:
            super().load_checkpoint(checkpoint)
        except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
            detail = " ".join(str(error).split())[:200]
            raise UsageError(
                f"the checkpoint {checkpoint.path} cannot be read ({detail}): remove that folder to go on from the one "
                "before it"
            ) from error


def _publish(staged: Checkpoint) -> Checkpoint:
    for file in staged.path.iterdir():
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
    path = staged.path.rename(staged.path.with_name(staged.path.name.removeprefix(STAGED)))
    return Checkpoint(path, staged.meta, {name: path / file.name for name, file in staged.paramfiles.items()})


class RecipeBrain(sb.Brain):
    """A Brain that resumes exactly and reports the epoch its selection metric chose.

    Subclasses set `selection` and implement `compute_forward`, `compute_objectives` and `stage_scores`.
    """

    selection: Selection

    def __init__(self, modules, settings, run_opts, folder, logs=(), optimizer=None, schedule=None):
        self.folder, self.logs, self.schedule = Path(folder), logs, schedule
        self.seed, self.epoch, self.stopwatch = settings["seed"], 0, Stopwatch()
        checkpointer = None
        if optimizer is not None:
            checkpointer = WholeCheckpointer(self.folder / "save", {"schedule": schedule} | modules)
            checkpointer.add_recoverable("stopwatch", self.stopwatch, optional_load=True)
        super().__init__(modules, optimizer, run_options(settings), run_opts, checkpointer)
        self.rates: list[float] = []

    def train(self, epochs: int, train_set: ClipDataset, valid_set: ClipDataset, batch_size: int) -> None:
        """Fit for that many epochs, continuing from the newest checkpoint of the run's folder if there is one.

        On SIGTERM or Ctrl-C the step in progress is finished, a checkpoint saved and `Interrupted` raised; with
        several processes, whose steps would have to agree, at once and without the checkpoint.
        """
        counter = EpochCounter(epochs)
        self.checkpointer.add_recoverable("counter", counter)
        with nullcontext() if self.distributed_launch else deferred():
            self.fit(
                counter,
                train_set,
                valid_set,
                train_loader_kwargs=loader_options(batch_size, shuffle=True),
                valid_loader_kwargs=loader_options(batch_size),
            )

    def _should_save_intra_epoch_ckpt(self, last_ckpt_time, steps_since_ckpt):
        # gradients that wait for their optimiser step are in no checkpoint
        if self.step % self.grad_accumulation_factor:
            return False
        return asked() or super()._should_save_intra_epoch_ckpt(last_ckpt_time, steps_since_ckpt)

    def _save_intra_epoch_ckpt(self):
        super()._save_intra_epoch_ckpt()
        leave_if_asked()

    def _fit_valid(self, valid_set, epoch, enable):
        try:
            super()._fit_valid(valid_set, epoch, enable)
        except Interrupted:
            self.step, self.avg_train_loss = self.steps, self.train_loss
            super()._save_intra_epoch_ckpt()
            raise

    def evaluate_batch(self, batch, stage):
        leave_if_asked()
        loss = super().evaluate_batch(batch, stage)
        self.losses.append((float(loss), len(batch)))
        return loss

    def _wrap_distributed(self):
        if self.distributed_launch:
            for name, module in self.modules.items():
                self.modules[name] = replicate(module)

    def make_dataloader(self, dataset, stage, ckpt_prefix="dataloader-", **options):
        if self.distributed_launch:
            training, order = options.pop("shuffle"), range(len(dataset))
            if training:
                order = self.train_sampler = ReproducibleRandomSampler(dataset, int(os.environ["SB_GLOBAL_SEED"]))
            batches = BatchSampler(order, options.pop("batch_size"), options.pop("drop_last"))
            options["batch_sampler"] = Share(batches, within=training)
        return super().make_dataloader(dataset, stage, ckpt_prefix, **options)

    def _train_loader_specifics(self, dataset, loader_kwargs):
        # shares are made above; SpeechBrain's would repeat clips and depend on the number of processes
        return loader_kwargs if self.distributed_launch else super()._train_loader_specifics(dataset, loader_kwargs)

    def score(self, test_set: ClipDataset, batch_size: int, chosen: bool = False) -> None:
        """Run the test stage, with the weights as they are or, if `chosen`, those of the selected epoch."""
        keys = self.selection.keys if chosen else {}
        self.evaluate(test_set, **keys, test_loader_kwargs=loader_options(batch_size))

    def stage_scores(self, stage: sb.Stage) -> dict[str, float]:
        """Averages of the stage that just ended, among them `selection.name` after validation."""
        raise NotImplementedError

    def gather_stage(self) -> None:
        """Make what this process found in a validation or test stage that of all processes."""
        raise NotImplementedError

    def on_stage_start(self, stage, epoch=None):
        self.epoch = epoch if stage == sb.Stage.TRAIN else 0
        self.losses: list[tuple[float, int]] = []

    def on_fit_batch_start(self, batch, should_step):
        seed_step(self.seed, self.epoch, self.step)

    def on_fit_batch_end(self, batch, outputs, loss, should_step):
        if should_step:
            self.rates.append(self.optimizer.param_groups[0]["lr"])
            self.schedule.on_batch_end(self.optimizer)

    def on_stage_end(self, stage, stage_loss, epoch=None):
        if stage == sb.Stage.TRAIN:
            losses = gather(stage_loss)
            self.train_loss, self.steps = math.fsum(losses) / len(losses), self.step
            return
        self.gather_stage()
        if stage == sb.Stage.VALID:
            losses = [one for found in gather(self.losses) for one in found]
            loss = math.fsum(loss * clips for loss, clips in losses) / sum(clips for _, clips in losses)
            scores, rate = self.stage_scores(stage) | {"loss": loss}, self.optimizer.param_groups[0]["lr"]
            for log in self.logs:
                log.log_stats({"epoch": epoch, "lr": rate}, {"loss": self.train_loss}, scores)
            keys = {name + "s": [key] for name, key in self.selection.keys.items()}
            self.checkpointer.save_and_keep_only(
                meta={self.selection.name: scores[self.selection.name], "epoch": epoch},
                importance_keys=[],
                **{"max_keys": [], "min_keys": []} | keys,
            )

    def on_evaluate_start(self, max_key=None, min_key=None):
        """Load the chosen epoch, if a key says how it was chosen.

        Raises UsageError when the run's folder holds no checkpoint with that metric.
        """
        if max_key is None and min_key is None:
            return
        chosen = self.checkpointer.recover_if_possible(max_key=max_key, min_key=min_key)
        if chosen is None:
            raise UsageError(f"{self.folder / 'save'} holds no checkpoint with a validation {self.selection.name}")
        self.chosen = {
            "epoch": chosen.meta["epoch"],
            f"valid_{self.selection.name}": chosen.meta[self.selection.name],
        }

    def training_facts(self) -> dict:
        """Which epoch was chosen, by what, and the range of learning rates this process used."""
        rates = {"lr_lowest": min(self.rates), "lr_highest": max(self.rates)} if self.rates else {}
        return self.chosen | rates
