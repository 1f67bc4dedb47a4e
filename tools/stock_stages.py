"""Runs a training script, stock or ours, with the stages of its Brain timed. `tools.stock` starts it in a process."""

import os
import resource
import runpy
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import speechbrain as sb
import torch
from torch.utils.data import DataLoader, Dataset
from transformers import FocalNetBackbone, FocalNetConfig

FOCALNET_BASE = {
    "embed_dim": 128,
    "hidden_sizes": [128, 256, 512, 1024],
    "depths": [2, 2, 18, 2],
    "focal_levels": [2] * 4,
    "focal_windows": [3] * 4,
    "out_features": ["stage4"],
}


@dataclass(frozen=True)
class Stage:
    """What a process spent in one stage.

    seconds and cpu_seconds: of the wall clock and of the processor. peak_gb: the most memory that it had held by the
    stage's end.
    """

    seconds: float
    cpu_seconds: float
    clips: int
    peak_gb: float


class _Measured(Exception):
    """The stage that was wanted is over."""


def run_timed(line: list[str], last: Literal["train"] | None = None) -> dict[str, Stage]:
    """Run a script in this process, as `python script …` would; its stages by name, "train" and "score".

    last: "train" to leave the script after that stage; None: it runs to its end.
    """
    stages: dict[str, Stage] = {}
    _time_the_brain(stages, last)
    _shrink_focalnet()
    script = Path(line[0]).resolve()
    os.chdir(script.parent)
    sys.argv = [str(script), *line[1:]]
    sys.path[0] = str(script.parent)
    with suppress(_Measured):
        runpy.run_path(str(script), run_name="__main__")
    return stages


def _time_the_brain(stages: dict[str, Stage], last: str | None) -> None:
    """From now on, every Brain's training stage and evaluation leave their times in `stages`; after `last` it ends."""
    fit_train, evaluate = sb.Brain._fit_train, sb.Brain.evaluate

    def timed_fit_train(brain, *args, **options):
        result = _timed(
            "train", _clips(brain, options["train_set"]), lambda: fit_train(brain, *args, **options), stages
        )
        if last == "train":
            raise _Measured
        return result

    def timed_evaluate(brain, *args, **options):
        data = args[0] if args else options["test_set"]
        return _timed("score", _clips(brain, data), lambda: evaluate(brain, *args, **options), stages)

    sb.Brain._fit_train, sb.Brain.evaluate = timed_fit_train, timed_evaluate


def _clips(brain: sb.Brain, data: DataLoader | Dataset) -> int:
    """How many clips a stage takes; one that is cut short by `--debug` is given as a loader."""
    if not isinstance(data, DataLoader):
        return len(data)  # type: ignore[arg-type]  # all have a length
    clips = len(data.dataset)  # type: ignore[arg-type]
    return min(clips, brain.debug_batches * cast(int, data.batch_size)) if brain.debug else clips


def _timed(name: str, clips: int, run_stage: Callable[[], object], stages: dict[str, Stage]) -> object:
    wall, cpu = time.perf_counter(), time.process_time()
    result = run_stage()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    seconds, cpu_seconds = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    stages[name] = Stage(seconds, cpu_seconds, clips, round(peak, 2))
    return result


def _shrink_focalnet() -> None:
    """Make FocalNets with small random weights, of FocalNet-base's size where a script asks for a pretrained one."""
    build = FocalNetBackbone.__init__

    def build_small(self, *args, **options):
        build(self, *args, **options)
        with torch.no_grad():  # gradients of random weights overflow at this depth
            for weight in self.parameters():
                weight.mul_(0.05 if weight.ndim > 1 else 1)

    FocalNetBackbone.__init__ = build_small
    FocalNetBackbone.from_pretrained = lambda *args, **options: FocalNetBackbone(FocalNetConfig(**FOCALNET_BASE))
