"""What both Brains share: where a run writes, exact resumption, choosing the best epoch, loading clips."""

import math
import os
import random
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import speechbrain as sb
import torch
from speechbrain.dataio.sampler import ReproducibleRandomSampler
from speechbrain.utils.epoch_loop import EpochCounter
from torch.utils.data import BatchSampler

from models.errors import UsageError
from recipes.data.clips import loader_options
from recipes.runs.run import Run
from recipes.system.console import Bar, duration, quiet, say
from recipes.system.interruption import Interrupted, asked, deferred, leave_if_asked
from recipes.system.parallel import Share, gather, on_main, rank, replicate
from recipes.system.products import multiply_by_onednn
from recipes.training.checkpoints import Stopwatch, WholeCheckpointer

if TYPE_CHECKING:
    from speechbrain.utils.train_logger import TrainLogger

RUN_KEYS = (
    "precision",
    "eval_precision",
    "max_grad_norm",
    "grad_accumulation_factor",
    "ckpt_interval_minutes",
)

BF16_PARAMETERS = 1_000_000


@dataclass(frozen=True)
class Selection:
    """The validation metric that chooses the epoch: the one name that is logged, saved and searched for."""

    name: str
    larger_is_better: bool

    @property
    def keys(self) -> dict:
        return {"max_key" if self.larger_is_better else "min_key": self.name}


def run_options(values: Mapping, device: str, modules: Sequence[torch.nn.Module]) -> dict:
    """Those of SpeechBrain's run options that a recipe sets, with `auto` replaced by what suits device and networks."""
    options = {}
    for key in RUN_KEYS:
        if key in values:
            options[key] = auto_precision(device, modules) if values[key] == "auto" else values[key]
    return options


def auto_precision(device: str, modules: Iterable[torch.nn.Module]) -> str:
    """bf16 where it is faster, else fp32; the measurements behind it are in docs/benchmarks.md.

    A GPU: where it multiplies bf16 natively. A CPU: for networks of `BF16_PARAMETERS` or more, below which casting
    costs what it saves, if it has AMX, or AVX-512 BF16 from AMD for plain networks: those with batch norm over maps,
    whose time goes to more than products, need the former, and Intel's AVX-512 BF16 is slower than float32. The
    answer rests on the machine's kind alone, so that a run goes on as it began.
    """
    if torch.device(device).type != "cpu":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    parameters, convolutional = 0, False
    for module in modules:
        parameters += sum(parameter.numel() for parameter in module.parameters())
        for part in module.modules():
            convolutional = convolutional or isinstance(part, torch.nn.BatchNorm2d)
    large = parameters >= BF16_PARAMETERS
    cpu = torch.cpu.get_capabilities()
    gains = cpu.get("amx_bf16") or (cpu.get("avx512_bf16") and "AMD" in cpu.get("cpu_name", "") and not convolutional)
    return "bf16" if large and gains else "fp32"


def multiply_in_float32() -> None:
    """Make fp32 mean float32: SpeechBrain's import lets a GPU round the factors of float32 products to TF32, 10 bits.

    A CPU takes the faster of its libraries for them. For the start of a command, since it holds for the whole process.
    """
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    multiply_by_onednn()


def diverged(sentence: str) -> UsageError:
    """The error of a training whose numbers are NaN or infinite; the sentence says which."""
    return UsageError(
        f"{sentence}: lower the learning rate, pass --precision=fp32, or start from pretrained weights; checkpoints "
        "are kept"
    )


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


def training_logs(run: Run) -> tuple["TrainLogger", ...]:
    """train_log.txt always; TensorBoard's files under tensorboard/ where the recipe says `tensorboard: true`."""
    # not at the top of this file: this import warns that torchvision is missing, which a command silences first
    from speechbrain.utils.train_logger import FileTrainLogger, TensorboardLogger

    logs: tuple[TrainLogger, ...] = (FileTrainLogger(str(run.folder / "train_log.txt")),)
    if run.values.get("tensorboard"):
        logs += (TensorboardLogger(str(run.folder / "tensorboard")),)
    return logs


class RecipeBrain(sb.Brain):
    """A Brain that resumes exactly and reports the epoch its selection metric chose.

    modules: the networks that are trained or scored, by name. frozen: networks beside them that run in the same
    precision. training: whether the run's optimiser, schedule, logs and checkpoints are wanted.

    Subclasses set `selection` and implement `compute_forward`, `compute_objectives`, `gather_stage` and `stage_scores`.
    """

    selection: Selection
    scoring_name = "test"

    def __init__(
        self,
        run: Run,
        modules: dict[str, torch.nn.Module],
        frozen: Sequence[torch.nn.Module] = (),
        training: bool = False,
    ):
        self.recipe_run, self.seed, self.epoch = run, run.values["seed"], 0
        self.stopwatch, self.rates = Stopwatch(), []
        self.batches: dict[sb.Stage, int] = {}
        self.bar = Bar("", 0)
        self.logs, self.schedule, optimizer, checkpointer = (), None, None, None
        self.chosen: dict = {}
        if training:
            self.logs = training_logs(run)
            self.schedule = run.objects["schedule"](steps_per_epoch=run.steps_per_epoch)
            optimizer = run.objects["optimizer"]
            checkpointer = WholeCheckpointer(run.folder / "save", {"schedule": self.schedule} | modules)
            checkpointer.add_recoverable("stopwatch", self.stopwatch, optional_load=True)
        options = run_options(run.values, run.device, [*modules.values(), *frozen])
        super().__init__(modules, optimizer, options, run.recipe.run_opts, checkpointer)

    def print_trainable_parameters(self):
        """SpeechBrain's line about them, where something is trained: it warns of networks that are only scored."""
        if self.opt_class is not None:
            super().print_trainable_parameters()

    def train(self) -> None:
        """Fit for the recipe's epochs, continuing from the newest checkpoint of the run's folder if there is one.

        Stops before the last epoch where the recipe's `patience` of epochs in a row were no better than the best.
        On SIGTERM or Ctrl-C the step in progress is finished, a checkpoint saved and `Interrupted` raised; with
        several processes, whose steps would have to agree, at once and without the checkpoint. Raises UsageError when
        losses or weights become NaN or infinite.
        """
        values = self.recipe_run.values
        self.counter = EpochCounter(values["epochs"])
        self.checkpointer.add_recoverable("counter", self.counter)
        interruptible = nullcontext() if self.distributed_launch else deferred()
        with interruptible, quiet(self.noprogressbar):
            self.fit(
                self.counter,
                self.recipe_run.dataset("train"),
                self.recipe_run.dataset("valid"),
                progressbar=False,  # SpeechBrain's bars have no names
                train_loader_kwargs=loader_options(values["batch_size"], shuffle=True),
                valid_loader_kwargs=loader_options(values["batch_size"]),
            )

    def on_fit_start(self):
        super().on_fit_start()
        self._stop_if_out_of_patience(self.counter.current)

    def _stop_if_out_of_patience(self, epoch: int) -> None:
        """Make this epoch the last where the patience of the recipe has run out with it."""
        if self._is_out_of_patience(epoch):
            self.counter.limit = epoch
            say(f"training ends: none of the last {self.recipe_run.values['patience']} epochs was better")

    def _is_out_of_patience(self, epoch: int) -> bool:
        """Whether `patience` epochs have passed since the best one."""
        patience = self.recipe_run.values.get("patience")
        if patience is None:
            return False
        best = self.checkpointer.find_checkpoint(**self.selection.keys)
        return best is not None and epoch - best.meta["epoch"] >= patience

    def check_loss_isfinite(self, loss):
        """SpeechBrain's count of losses that are NaN or infinite. Raises UsageError where its patience ends."""
        try:
            super().check_loss_isfinite(loss)
        except ValueError as error:
            raise diverged(self._loss_sentence()) from error

    def _loss_sentence(self) -> str:
        batches = "batch" if self.nonfinite_count == 1 else "batches"
        return f"the loss was NaN or infinite in {self.nonfinite_count} {batches} of epoch {self.epoch}"

    def _check_weights(self) -> None:
        """Raises UsageError where a trained weight is NaN or infinite: one such loss is enough to make it so."""
        for parameter in self.modules.parameters():
            if parameter.requires_grad and not torch.isfinite(parameter).all():
                if self.nonfinite_count:
                    raise diverged(self._loss_sentence())
                raise diverged(f"weights became NaN or infinite in epoch {self.epoch}")

    def _should_save_intra_epoch_ckpt(self, last_ckpt_time, steps_since_ckpt):
        # gradients that wait for their optimiser step are in no checkpoint
        if self.step % self.grad_accumulation_factor:
            return False
        due = asked() or super()._should_save_intra_epoch_ckpt(last_ckpt_time, steps_since_ckpt)
        if due:
            self._check_weights()  # weights that are NaN are in no checkpoint either
        return due

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
        self.bar.advance()
        if stage == sb.Stage.VALID and not math.isfinite(loss):
            raise diverged("the loss was NaN or infinite on validation clips")
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
        loader = super().make_dataloader(dataset, stage, ckpt_prefix, **options)
        self.batches[stage] = len(loader)
        return loader

    def _train_loader_specifics(self, dataset, loader_kwargs):
        # shares are made above; SpeechBrain's would repeat clips and depend on the number of processes
        return loader_kwargs if self.distributed_launch else super()._train_loader_specifics(dataset, loader_kwargs)

    def score(self, batch_size: int, chosen: bool = False) -> None:
        """Score the run's test clips, with the weights as they are or, if `chosen`, those of the selected epoch."""
        keys = self.selection.keys if chosen else {}
        with quiet(self.noprogressbar):
            self.evaluate(
                self.recipe_run.dataset("test"),
                **keys,
                progressbar=False,
                test_loader_kwargs=loader_options(batch_size),
            )

    def stage_scores(self, stage: sb.Stage) -> dict[str, float]:
        """Averages of the stage that just ended, among them `selection.name` after validation."""
        raise NotImplementedError

    def gather_stage(self) -> None:
        """Gather what all processes computed in a validation or test stage, in each of them."""
        raise NotImplementedError

    def on_stage_start(self, stage, epoch=None):
        self.epoch = epoch if stage == sb.Stage.TRAIN else 0
        self.losses: list[tuple[float, int]] = []
        self.bar = self._open_bar(stage, epoch)
        if stage == sb.Stage.TRAIN:
            self.epoch_started = self.bar.started

    def _open_bar(self, stage: sb.Stage, epoch: int | None) -> Bar:
        if stage == sb.Stage.TEST:
            return Bar(self.scoring_name, self.batches[stage])
        epochs = self.recipe_run.values["epochs"]
        if stage == sb.Stage.VALID:
            return Bar(f"epoch {epoch}/{epochs} valid", self.batches[stage])
        return Bar(f"epoch {epoch}/{epochs} train", self.batches[stage] - self.step, rounds=epochs - epoch + 1)

    def on_fit_batch_start(self, batch, should_step):
        seed_step(self.seed, self.epoch, self.step)

    def on_fit_batch_end(self, batch, outputs, loss, should_step):
        self.bar.advance()
        if should_step:
            self.rates.append(self.optimizer.param_groups[0]["lr"])
            self.schedule.on_batch_end(self.optimizer)

    def on_stage_end(self, stage, stage_loss, epoch=None):
        self.bar.close()
        if stage == sb.Stage.TRAIN:
            self._check_weights()
            losses = gather(stage_loss)
            self.train_loss, self.steps = math.fsum(losses) / len(losses), self.step
            return
        self.gather_stage()
        if stage == sb.Stage.VALID:
            self._end_epoch(epoch)

    def _end_epoch(self, epoch: int) -> None:
        """Log the epoch, keep its checkpoint if it is the best or the newest, and print a line about it."""
        products, clips = [], 0
        for part in gather(self.losses):
            for loss, batch_clips in part:
                products.append(loss * batch_clips)
                clips += batch_clips
        valid_loss = math.fsum(products) / clips
        scores = self.stage_scores(sb.Stage.VALID) | {"loss": valid_loss}
        rate = self.optimizer.param_groups[0]["lr"]
        for log in self.logs:
            log.log_stats({"epoch": epoch, "lr": rate}, {"loss": self.train_loss}, scores)
        if self.schedule is not None:
            self.schedule.on_epoch_end(self.optimizer, epoch, valid_loss)
        if on_main(self._is_worth_saving, epoch, scores[self.selection.name]):
            chosen_by = {name + "s": [key] for name, key in self.selection.keys.items()}
            self.checkpointer.save_and_keep_only(
                meta={self.selection.name: scores[self.selection.name], "epoch": epoch},
                importance_keys=[],
                **{"max_keys": [], "min_keys": []} | chosen_by,
            )
        best = self.checkpointer.find_checkpoint(**self.selection.keys)
        mark = "  best so far" if best is not None and best.meta["epoch"] == epoch else ""
        epochs, name = self.recipe_run.values["epochs"], self.selection.name
        seconds = duration(time.monotonic() - self.epoch_started)
        say(
            f"epoch {epoch:>{len(str(epochs))}}/{epochs}  train loss {self.train_loss:.4g}  "
            f"valid {name} {scores[name]:.4g}  rate {rate:.2g}  {seconds}{mark}"
        )
        self._stop_if_out_of_patience(epoch)

    def _is_worth_saving(self, epoch: int, score: float) -> bool:
        """Whether an epoch gets a checkpoint: the last one does, one that may be chosen, and any where it is due.

        The last one is that of the recipe, or the one with which its patience runs out.

        On a GPU an epoch of a large network may take less time than a gigabyte takes to the disk.
        """
        if epoch == self.recipe_run.values["epochs"] or self.checkpointer.is_due():
            return True
        best = self.checkpointer.find_checkpoint(**self.selection.keys)
        if best is None:
            return True
        chosen = best.meta[self.selection.name]
        as_good = score >= chosen if self.selection.larger_is_better else score <= chosen
        return as_good or self._is_out_of_patience(epoch)

    def on_evaluate_start(self, max_key=None, min_key=None):
        """Load the chosen epoch, if a key says how it was chosen.

        Raises UsageError when the run's folder holds no checkpoint with that metric.
        """
        if max_key is None and min_key is None:
            return
        chosen = self.checkpointer.recover_if_possible(max_key=max_key, min_key=min_key)
        if chosen is None:
            raise UsageError(
                f"{self.recipe_run.folder / 'save'} holds no checkpoint with a validation {self.selection.name}"
            )
        self.chosen = {
            "epoch": chosen.meta["epoch"],
            f"valid_{self.selection.name}": chosen.meta[self.selection.name],
        }

    def training_facts(self) -> dict:
        """Which epoch was chosen of how many, by what, in which precision, and the rates that this process used.

        Of a classifier that is not trained: no epoch, of 0.
        """
        rates = {"lr_lowest": min(self.rates), "lr_highest": max(self.rates)} if self.rates else {}
        checkpoints = self.checkpointer.list_checkpoints()
        trained = max((checkpoint.meta.get("epoch", 0) for checkpoint in checkpoints), default=0)
        return self.chosen | {"epochs": trained, "precision": self.precision} | rates
