"""Ten thousand explained clips in one run: the memory of `interpret.py` from the first batch to the last.

    python -m tools.load --clips=10000 --out=docs/results/reliability/load.json

Each recipe runs in a process of its own on a synthetic set of one-second clips and a FocalNet trained for a second.
After every batch the process notes what memory is its own (RssAnon; pages of the mapped cache are the system's to take
back).
"""

import argparse
import csv
import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

import recipes.interpretation
from models.errors import UsageError
from recipes.config.recipe import entry
from recipes.synthetic import CATEGORIES, make_clip, make_corpus
from recipes.system.files import write_atomically
from tools.kills import commands, finish, start, wait

RATE = 16000
RECIPES = {"modulation": ("--quantile=[0.5,0.7,0.9]",), "saliency": ()}
SETTLED = 0.1
"""The share of the clips after which a run has allocated what it works with."""


@dataclass(frozen=True)
class Memory:
    """What a process held after so many clips, in MiB."""

    clips: int
    own: float
    mapped: float

    @classmethod
    def now(cls, clips: int) -> "Memory":
        lines = Path("/proc/self/status").read_text().splitlines()
        held = {
            name: int(rest.split()[0]) / 1024
            for name, _, rest in (line.partition(":") for line in lines)
            if "Rss" in name
        }
        return cls(clips, held["RssAnon"], held["RssFile"])


def make_set(folder: Path, clips: int, seconds: float = 1.0) -> Path:
    """A data folder of that many test clips in fold 3, and a clip of each class in folds 1 and 2."""
    (folder / "meta").mkdir(parents=True)
    (folder / "audio").mkdir()
    with (folder / "meta" / "load.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("filename", "fold", "target", "category"))
        for number in range(clips + 2 * len(CATEGORIES)):
            index, target = divmod(number, len(CATEGORIES))
            name = f"{number}.wav"
            soundfile.write(folder / "audio" / name, make_clip(target, index, seconds, RATE, 1).samples, RATE)
            table.writerow((name, min(index + 1, 3), target, CATEGORIES[target]))
    return folder


def watch(log: Path) -> None:
    """From now on every scored batch of this process appends what memory it holds to a file."""
    score_batch, seen = recipes.interpretation.score_batch, 0

    def noted(classifier, interpreter, spectrogram, label, *given):
        nonlocal seen
        yield from score_batch(classifier, interpreter, spectrogram, label, *given)
        seen += len(label)
        memory = Memory.now(seen)
        with log.open("a") as file:
            file.write(f"{memory.clips} {memory.own} {memory.mapped}\n")

    recipes.interpretation.score_batch = noted


def growth(memory: list[Memory]) -> float:
    """Own memory per 1000 clips, in MiB: the slope of the line through what was held once the run had settled."""
    settled = [one for one in memory if one.clips >= SETTLED * memory[-1].clips]
    return 1000 * float(np.polyfit([one.clips for one in settled], [one.own for one in settled], 1)[0])


def explained(recipe: str, data: Path, classifier: Path, base: Path) -> dict:
    """Run one recipe over the data; the facts that the documentation shows."""
    line = [
        "interpret.py", f"hparams/{recipe}.yaml", f"--data_folder={data}", f"--classifier={classifier}",
        f"--cache_folder={base / 'cache'}", f"--output_folder={base / 'out'}", "--device=cpu", "--noprogressbar",
        "--train_folds=[1]", "--valid_folds=[2]", "--test_folds=[3]", *RECIPES[recipe],
    ]  # fmt: skip
    log, said, started = base / f"{recipe}.memory", base / f"{recipe}.log", time.monotonic()
    if wait(start(line, said, before=lambda: watch(log))):
        raise UsageError(f"{recipe} failed: {said.read_text()[-2000:]}")
    memory = [Memory(int(clips), float(own), float(mapped)) for clips, own, mapped in map(str.split, log.open())]
    kept = memory[:: max(1, len(memory) // 20)]
    return {
        "clips": memory[-1].clips,
        "minutes": round((time.monotonic() - started) / 60, 1),
        "own_mib_settled": round(next(one.own for one in memory if one.clips >= SETTLED * memory[-1].clips), 1),
        "own_mib_end": round(memory[-1].own, 1),
        "mib_per_1000_clips": round(growth(memory), 3),
        "samples": [[one.clips, round(one.own, 1), round(one.mapped, 1)] for one in kept],
    }


def measure(clips: int, base: Path, chosen: list[str]) -> dict[str, dict]:
    """Every chosen recipe over that many clips."""
    small = make_corpus(base / "small", clips_per_class=10, seconds=1.0, mixtures=0)
    trainer = commands(small, base)["train"]
    if finish(trainer.line(base / "trained"), base / "log"):
        raise UsageError(f"the training failed: {(base / 'log').read_text()[-2000:]}")
    data = make_set(base / "data", clips)
    return {one: explained(one, data, trainer.run(base / "trained") / "classifier", base) for one in chosen}


def main(arguments: list[str]) -> None:
    """Entry point; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m tools.load", description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=10000)
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as base:
        found = measure(options.clips, Path(base), options.recipes)
    write_atomically(options.out, (json.dumps(found, indent=1) + "\n").encode())
    json.dump(found, sys.stdout, indent=1)


if __name__ == "__main__":
    entry(main)
