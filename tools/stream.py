"""A hundred thousand clips through cache, loader and clips.csv: what memory a process holds meanwhile.

    python -m tools.stream --clips=100000 --out=docs/results/benchmarks/stream.json

The clips are short noise. Noted is the memory that is the process's own. Sound must not add to it as the clips become
more; names, labels and scores do, by some bytes a clip. (`tools.load` does the same for explaining.)
"""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from recipes.data.clips import ClipStore, fold_set, loader_options
from recipes.data.preparation import prepare
from recipes.scoring.table import ClipTable
from recipes.system.entry import entry
from tools.memory import RATE, GeneratedClip, Memory, write_data_folder
from tools.runner import check_out, positive, report_result, tool_parser

CLASSES = 10
BATCH = 32
SCORES = 10
"""How many scores a clip gets, about as many as an interpreter has."""


class Steps:
    """Seconds that each step took, and the memory held after it."""

    def __init__(self):
        self.facts: dict[str, dict[str, float]] = {}
        self._started = time.monotonic()

    def note(self, step: str) -> None:
        """A step has ended."""
        seconds = time.monotonic() - self._started
        self.facts[step] = {"seconds": round(seconds, 1), "own_mib": round(Memory.now().own, 1)}
        self._started = time.monotonic()


def noise_clips(count: int, seconds: float) -> Iterator[GeneratedClip]:
    """That many clips of noise in one fold."""
    rng = np.random.default_rng(0)
    for number in range(count):
        samples = rng.integers(-(2**14), 2**14, round(seconds * RATE), dtype=np.int16)
        target = number % CLASSES
        yield GeneratedClip(samples, 1, target, f"class {target}")


def iterate(store: ClipStore, steps: Steps) -> ClipTable:
    """Every clip once, in shuffled batches; noted after a tenth and after the last full batch."""
    table, clips = ClipTable(), 0
    batches = len(store) // BATCH
    noted = (BATCH * (batches // 10), BATCH * batches)
    for batch in torch.utils.data.DataLoader(fold_set(store, (1,), BATCH), **loader_options(BATCH)):
        energy = batch.waveform.square().mean(dim=1)
        scores = {f"score{number}": energy for number in range(SCORES)}
        table.add(batch.index, label=batch.label, prediction=batch.label, **scores)
        clips += len(batch)
        if clips in noted:
            steps.note(f"iterated {clips}")
    return table


def stream(clips: int, seconds: float) -> dict:
    """Prepare twice, as a second run would, iterate, and write clips.csv; seconds and memory after each step."""
    torch.set_num_threads(1)
    steps = Steps()
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        data = write_data_folder(base / "set", noise_clips(clips, seconds))
        steps.note("generated")
        store = prepare(data, base / "cache", RATE, seconds)
        steps.note("prepared")
        prepare(data, base / "cache", RATE, seconds)
        steps.note("prepared again")
        table = iterate(store, steps)
        table.write(base / "clips.csv", store.corpus)
        steps.note("written")
        rows = len((base / "clips.csv").read_text().splitlines()) - 1
    sound_mib = round(clips * seconds * RATE * 4 / 2**20, 1)
    return {"clips": clips, "clip_seconds": seconds, "sound_mib": sound_mib, "rows": rows, "steps": steps.facts}


def main(arguments: list[str]) -> None:
    """Entry point; see the module's docstring."""
    parser = tool_parser("stream", __doc__)
    parser.add_argument("--clips", type=positive, default=100_000)
    parser.add_argument("--seconds", type=float, default=0.25, help="length of a clip")
    options = parser.parse_args(arguments)
    check_out(options.out)
    report_result(stream(options.clips, options.seconds), options.out)


if __name__ == "__main__":
    entry(main)
