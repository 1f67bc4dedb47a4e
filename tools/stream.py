"""A hundred thousand clips through cache, loader and clips.csv: what memory a process holds meanwhile.

    python -m tools.stream --clips=100000 --out=docs/results/benchmarks/stream.json

The clips are generated and short. Noted is the memory that is the process's own (RssAnon): pages of the mapped cache
are the system's to take back. What must not grow with the clips is sound; names, labels and scores do, by bytes a
clip. (`tools.load` does the same for explaining.)
"""

import argparse
import csv
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
import torch

from recipes.config.recipe import entry
from recipes.data.clips import fold_set, loader_options, prepare
from recipes.scoring.table import ClipTable
from recipes.system.files import write_atomically

RATE = 16000
CLASSES = 10


def own_mib() -> float:
    """Memory of this process that no file backs, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon"))


def make_set(folder: Path, clips: int, seconds: float) -> Path:
    """A data folder of that many clips of noise in one fold."""
    rng = np.random.default_rng(0)
    (folder / "meta").mkdir(parents=True)
    (folder / "audio").mkdir()
    with (folder / "meta" / "stream.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("filename", "fold", "target", "category"))
        for number in range(clips):
            samples = rng.integers(-(2**14), 2**14, round(seconds * RATE), dtype=np.int16)
            soundfile.write(folder / "audio" / f"{number}.wav", samples, RATE)
            table.writerow((f"{number}.wav", 1, number % CLASSES, f"class {number % CLASSES}"))
    return folder


def stream(clips: int, seconds: float) -> dict:
    """Prepare, iterate in shuffled batches, and write clips.csv; seconds and memory after each."""
    torch.set_num_threads(1)
    found = {"clips": clips, "clip_seconds": seconds, "sound_mib": round(clips * seconds * RATE * 4 / 2**20, 1)}
    started, steps = time.monotonic(), {}

    def note(step: str) -> None:
        nonlocal started
        steps[step] = {"seconds": round(time.monotonic() - started, 1), "own_mib": round(own_mib(), 1)}
        started = time.monotonic()

    with tempfile.TemporaryDirectory() as base:
        data = make_set(Path(base) / "set", clips, seconds)
        note("generated")
        store = prepare(data, Path(base) / "cache", RATE, seconds)
        note("prepared")
        table, seen = ClipTable(), 0
        for batch in torch.utils.data.DataLoader(fold_set(store, (1,), 32), **loader_options(32)):
            scores = batch.waveform.square().mean(dim=1)
            table.add(
                batch.index, label=batch.label, prediction=batch.label, **{f"score{k}": scores for k in range(10)}
            )
            seen += len(batch)
            if seen in (32 * (clips // 320), 32 * (clips // 32)):
                note(f"iterated {seen}")
        table.write(Path(base) / "clips.csv", store.corpus)
        note("written")
        with (Path(base) / "clips.csv").open() as file:
            found["rows"] = sum(1 for _ in file) - 1
    return found | {"steps": steps}


def main(arguments: list[str]) -> None:
    """Entry point; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m tools.stream", description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=0.25)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    found = json.dumps(stream(options.clips, options.seconds), indent=1)
    print(found)
    if options.out:
        write_atomically(options.out, (found + "\n").encode())


if __name__ == "__main__":
    entry(main)
