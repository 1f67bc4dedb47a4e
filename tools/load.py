"""Ten thousand explained clips in one run: the memory of `interpret.py` from the first batch to the last.

    python -m tools.load --clips=10000 --out=docs/results/reliability/load.json

Each recipe runs in a process of its own, on a synthetic set of one-second clips and a FocalNet trained for a second.
After every batch the process notes how much memory is its own.
"""

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from interpreters.base import Interpreter
from models.classifier import AudioClassifier
from models.errors import UsageError
from recipes.scoring.batch import LabelledClips
from recipes.synthetic import CATEGORIES, make_clip, make_corpus
from recipes.system.entry import entry
from recipes.training import interpreter_brain
from tools.memory import RATE, GeneratedClip, Memory, write_data_folder
from tools.processes import commands, finish, start, wait
from tools.runner import check_out, positive, report_result, tool_parser

CLIP_SECONDS = 1.0
RECIPES = {"modulation": ("--quantile=[0.5,0.7,0.9]",), "gradient": ()}
SETTLED = 0.1
"""The share of the clips after which a run has allocated what it works with."""


@dataclass(frozen=True)
class Sample:
    """What a process held after so many clips, in MiB (`Memory`)."""

    clips: int
    own: float
    mapped: float


def generated_clips(count: int) -> Iterator[GeneratedClip]:
    """That many test clips in fold 3, and before them one clip of each class in folds 1 and 2."""
    for number in range(count + 2 * len(CATEGORIES)):
        index, target = divmod(number, len(CATEGORIES))
        samples = make_clip(target, index, CLIP_SECONDS, RATE, 1).samples
        yield GeneratedClip(samples, min(index + 1, 3), target, CATEGORIES[target])


def watch(log: Path) -> None:
    """From now on, every scored batch of this process appends what memory it holds to a file."""
    score_batch, scored = interpreter_brain.score_batch, 0

    def score_and_note(
        classifier: AudioClassifier, interpreter: Interpreter, clips: LabelledClips, *rest
    ) -> Iterator[dict[str, Tensor]]:
        nonlocal scored
        yield from score_batch(classifier, interpreter, clips, *rest)
        scored += len(clips)
        memory = Memory.now()
        with log.open("a") as file:
            file.write(f"{scored} {memory.own} {memory.mapped}\n")

    interpreter_brain.score_batch = score_and_note  # type: ignore[assignment]


def read_samples(log: Path) -> list[Sample]:
    """What a watched process appended."""
    samples = []
    for line in log.read_text().splitlines():
        clips, own, mapped = line.split()
        samples.append(Sample(int(clips), float(own), float(mapped)))
    return samples


def settled(samples: list[Sample]) -> list[Sample]:
    """The samples after the run has allocated what it works with."""
    return [sample for sample in samples if sample.clips >= SETTLED * samples[-1].clips]


def growth(samples: list[Sample]) -> float:
    """Own memory per 1000 clips, in MiB: the slope of a line through the settled samples."""
    late = settled(samples)
    clips = [sample.clips for sample in late]
    own = [sample.own for sample in late]
    slope, _ = np.polyfit(clips, own, 1)
    return 1000 * float(slope)


def explain(recipe: str, data: Path, classifier: Path, base: Path) -> dict:
    """Run one recipe over the data; the facts that the documentation shows."""
    line = [
        "interpret.py", f"hparams/{recipe}.yaml", f"--data_folder={data}", f"--classifier={classifier}",
        f"--cache_folder={base / 'cache'}", f"--output_folder={base / 'out'}", "--device=cpu", "--noprogressbar",
        "--train_folds=[1]", "--valid_folds=[2]", "--test_folds=[3]", *RECIPES[recipe],
    ]  # fmt: skip
    memory_log, log, started = base / f"{recipe}.memory", base / f"{recipe}.log", time.monotonic()
    if wait(start(line, log, before=lambda: watch(memory_log))):
        raise UsageError(f"{recipe} failed: {log.read_text()[-2000:]}")
    samples = read_samples(memory_log)
    shown = samples[:: max(1, len(samples) // 20)]
    return {
        "clips": samples[-1].clips,
        "minutes": round((time.monotonic() - started) / 60, 1),
        "own_mib_settled": round(settled(samples)[0].own, 1),
        "own_mib_end": round(samples[-1].own, 1),
        "mib_per_1000_clips": round(growth(samples), 3),
        "samples": [[sample.clips, round(sample.own, 1), round(sample.mapped, 1)] for sample in shown],
    }


def measure(clips: int, base: Path, recipes_to_run: list[str]) -> dict[str, dict]:
    """Every chosen recipe over that many clips."""
    small = make_corpus(base / "small", clips_per_class=10, seconds=CLIP_SECONDS, mixtures=0)
    training = commands(small, base)["train"]
    if finish(training.line(base / "trained"), base / "log"):
        raise UsageError(f"the training failed: {(base / 'log').read_text()[-2000:]}")
    classifier = training.run(base / "trained") / "classifier"
    data = write_data_folder(base / "data", generated_clips(clips))
    return {recipe: explain(recipe, data, classifier, base) for recipe in recipes_to_run}


def main(arguments: list[str]) -> None:
    """Entry point; see the module's docstring."""
    parser = tool_parser("load", __doc__)
    parser.add_argument("--clips", type=positive, default=10000)
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES))
    options = parser.parse_args(arguments)
    check_out(options.out)
    with tempfile.TemporaryDirectory() as base:
        facts = measure(options.clips, Path(base), options.recipes)
    report_result(facts, options.out)


if __name__ == "__main__":
    entry(main)
