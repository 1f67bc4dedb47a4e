"""Checkpoints that are whole or absent, and what a run saves in them beside its networks."""

import math
import os
import pickle
import shutil
import time
from pathlib import Path

import speechbrain as sb
import torch
from speechbrain.utils.checkpoints import Checkpoint, Checkpointer
from speechbrain.utils.distributed import ddp_barrier, if_main_process

from models.errors import UsageError
from models.staging import STAGED
from recipes.system.files import unwritable

SHORT_SAVE_SECONDS = 1.0
WORK_PER_SAVE = 10.0  # seconds of work for a second of saving: a kill costs no more than these


@sb.utils.checkpoints.register_checkpoint_hooks
class Stopwatch:
    """Seconds of work on a run, over all the processes that resumed it; saved with every checkpoint.

    seconds: as a clock on the wall counts them. cpu_seconds: of all of the process's threads, whatever else the machine
    does; those before a checkpoint that an older version made are not counted.
    """

    def __init__(self):
        self._start(0.0, 0.0)

    def _start(self, seconds: float, cpu_seconds: float) -> None:
        self._before, self._started = seconds, time.monotonic()
        self._cpu_before, self._cpu_started = cpu_seconds, time.process_time()

    @property
    def seconds(self) -> float:
        return self._before + time.monotonic() - self._started

    @property
    def cpu_seconds(self) -> float:
        return self._cpu_before + time.process_time() - self._cpu_started

    @sb.utils.checkpoints.mark_as_saver
    def save(self, path):
        torch.save({"seconds": self.seconds, "cpu_seconds": self.cpu_seconds}, path)

    @sb.utils.checkpoints.mark_as_loader
    def load(self, path, end_of_epoch=False):
        del end_of_epoch
        saved = torch.load(path, weights_only=True)
        self._start(saved["seconds"], saved.get("cpu_seconds", 0.0))


class WholeCheckpointer(Checkpointer):
    """SpeechBrain's Checkpointer, except that a checkpoint appears whole or not at all.

    SpeechBrain writes the file that makes a folder a checkpoint before the parameters, so that a process killed in
    between leaves a checkpoint without them. Here the folder gets its name when everything is on the disk.

    save_seconds: what the last checkpoint took. saved_at: when it was there, by `time.monotonic`.
    """

    save_seconds, saved_at = 0.0, -math.inf

    def is_due(self) -> bool:
        """Whether one more checkpoint is worth its time: it is short, or long ago against what it takes."""
        if self.save_seconds < SHORT_SAVE_SECONDS:
            return True
        return time.monotonic() - self.saved_at >= WORK_PER_SAVE * self.save_seconds

    def _new_checkpoint_dirpath(self):
        path = super()._new_checkpoint_dirpath()
        return path.with_name(STAGED + path.name)

    def save_checkpoint(self, *arguments, **options):
        """Raises UsageError when the disk is full or the folder cannot be written; older checkpoints stay."""
        started = time.monotonic()
        try:
            saved = super().save_checkpoint(*arguments, **options)
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
        self.saved_at = time.monotonic()
        self.save_seconds = self.saved_at - started
        return saved

    def delete_checkpoints(
        self, *, num_to_keep=1, min_keys=None, max_keys=None, importance_keys=(), ckpt_predicate=None, **unused
    ):
        """As SpeechBrain's, except that a folder loses its name before its files."""
        orders = []
        for name, keys in (("min_key", min_keys), ("max_key", max_keys), ("importance_key", importance_keys)):
            orders += [{name: key} for key in keys or ()]
        doomed: set[Path] = set()
        kept: set[Path] = set()
        for order in orders:
            ranked = self.find_checkpoints(**order, ckpt_predicate=ckpt_predicate)
            doomed.update(checkpoint.path for checkpoint in ranked)
            kept.update(checkpoint.path for checkpoint in ranked[:num_to_keep])
        ddp_barrier()
        if if_main_process():
            for path in doomed - kept:
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
