"""Learning-rate schedules, saved with the checkpoint."""

import math

import speechbrain as sb
import torch
from speechbrain.nnet.schedulers import CyclicLRScheduler, ReduceLROnPlateau


class Schedule:
    """What a training asks of its schedule; a schedule has one of the two."""

    def on_batch_end(self, optimizer: torch.optim.Optimizer) -> None:
        """Called after a step of the optimiser."""

    def on_epoch_end(self, optimizer: torch.optim.Optimizer, epoch: int, loss: float) -> None:
        """Called after an epoch (from 1) with its validation loss."""


class Cyclic(CyclicLRScheduler, Schedule):
    """SpeechBrain's triangular cycle counted in optimiser steps, as the FocalNet paper ran it.

    With 75 steps an epoch, 100 epochs and `step_size` 65000 the rate climbs from 1e-8 to 2.3e-5 and never reaches
    `max_lr`: the published numbers came from that.

    steps_per_epoch is not used: this schedule knows no epochs.
    """

    def __init__(self, steps_per_epoch: int, base_lr: float, max_lr: float, step_size: float):
        super().__init__(base_lr=base_lr, max_lr=max_lr, step_size=step_size)


class Plateau(ReduceLROnPlateau, Schedule):
    """SpeechBrain's schedule of L-MAC and LMAC-TD: the optimiser's own rate, lowered where validation stands still.

    After `patience` epochs in a row that are worse than the best one since `first_epoch`, the next one that is worse
    multiplies the rate by `factor`, down to 1e-8. Up to `first_epoch` the rate stays, and the last loss counts as best.

    steps_per_epoch is not used: this schedule knows no steps.
    """

    def __init__(self, steps_per_epoch: int, factor: float = 0.5, patience: int = 3, first_epoch: int = 100):
        super().__init__(factor=factor, patience=patience, dont_halve_until_epoch=first_epoch)

    def on_epoch_end(self, optimizer, epoch, loss):
        _, rate = self([optimizer], epoch, loss)
        for group in optimizer.param_groups:
            group["lr"] = rate


@sb.utils.checkpoints.register_checkpoint_hooks
class WarmupCosine(Schedule):
    """Linear warm-up to `peak_lr`, then a half cosine to zero, both in epochs.

    steps_per_epoch: optimiser steps. epochs: whole length. warmup_epochs: may be a fraction.
    """

    def __init__(self, steps_per_epoch: int, peak_lr: float, epochs: float, warmup_epochs: float):
        self.peak_lr = peak_lr
        self.warmup_steps = max(1, round(warmup_epochs * steps_per_epoch))
        self.total_steps = max(self.warmup_steps + 1, round(epochs * steps_per_epoch))
        self.steps = 0

    def rate(self, step: int) -> float:
        """Learning rate of the step-th optimiser step (from 0)."""
        if step < self.warmup_steps:
            return self.peak_lr * (step + 1) / self.warmup_steps
        progress = min(1.0, (step - self.warmup_steps) / (self.total_steps - self.warmup_steps))
        return self.peak_lr * 0.5 * (1 + math.cos(math.pi * progress))

    def on_batch_end(self, optimizer):
        """Set the rate of the step that follows."""
        self.steps += 1
        for group in optimizer.param_groups:
            group["lr"] = self.rate(self.steps)

    @sb.utils.checkpoints.mark_as_saver
    def save(self, path):
        torch.save({"steps": self.steps}, path)

    @sb.utils.checkpoints.mark_as_loader
    def load(self, path, end_of_epoch=False):
        del end_of_epoch
        self.steps = torch.load(path, weights_only=True)["steps"]
