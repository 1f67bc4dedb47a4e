"""What the tools that watch memory share: how much a process holds, and data folders of many generated clips."""

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

RATE = 16000


@dataclass(frozen=True)
class Memory:
    """What this process holds, in MiB.

    own: memory that no file backs (RssAnon). mapped: pages of mapped files (RssFile), which the system can take back.
    """

    own: float
    mapped: float

    @classmethod
    def now(cls) -> "Memory":
        """As /proc tells it; Linux only."""
        return cls(*held_by("self", "RssAnon", "RssFile"))


def held_by(process: int | str, *names: str) -> list[float]:
    """Sizes of a process in MiB by their names in its /proc/<process>/status. Raises OSError where it has ended."""
    sizes = {}
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in names:
            sizes[name] = int(value.split()[0]) / 1024
    return [sizes[name] for name in names]


@dataclass(frozen=True)
class GeneratedClip:
    """samples: [N] at 16 kHz. category: the name of the target."""

    samples: np.ndarray
    fold: int
    target: int
    category: str


def write_data_folder(folder: Path, clips: Iterable[GeneratedClip]) -> Path:
    """Write clips one after another as a data folder; returns the folder."""
    (folder / "meta").mkdir(parents=True)
    (folder / "audio").mkdir()
    with (folder / "meta" / "generated.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("filename", "fold", "target", "category"))
        for number, clip in enumerate(clips):
            name = f"{number}.wav"
            soundfile.write(folder / "audio" / name, clip.samples, RATE)
            table.writerow((name, clip.fold, clip.target, clip.category))
    return folder
