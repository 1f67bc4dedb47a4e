"""Mono sounds of any length at one rate, in memory that does not grow: long ones are kept in a temporary file."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import numpy as np

from recipes.data.audio import SoundReader, resample_blocks, sound_level, to_mono
from recipes.data.signals import Fault, SignalMeter

IN_MEMORY_SAMPLES = 1 << 23
"""A longer sound, of about nine minutes at 16 kHz, lies on disk."""

_SAMPLE = np.dtype(np.float32)


class SpooledSamples:
    """Float32 samples [N] in a temporary file, read slice by slice; the file goes when nothing refers to it."""

    def __init__(self) -> None:
        self._file: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as this object
        self._count = 0

    def append(self, block: np.ndarray) -> None:
        """Add samples at the end, before any is read."""
        self._file.write(block.astype(_SAMPLE).tobytes())
        self._count += len(block)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, wanted: slice) -> np.ndarray:
        start, stop, _ = wanted.indices(self._count)
        self._file.seek(start * _SAMPLE.itemsize)
        content = self._file.read(max(0, stop - start) * _SAMPLE.itemsize)
        return np.frombuffer(content, _SAMPLE)


@dataclass(frozen=True)
class MonoSound:
    """A mono sound whose slices are arrays: `samples` [N], and the `level` that brings its absolute peak to 1.

    faults: what deceives about it (`recipes.data.signals`).
    """

    samples: np.ndarray | SpooledSamples
    level: float
    faults: tuple[Fault, ...] = ()

    def __len__(self) -> int:
        return len(self.samples)


def mono_sound(waveform: np.ndarray) -> MonoSound:
    """A sound [N], or [channels, N] that are averaged, of finite samples, as a MonoSound."""
    meter = SignalMeter()
    meter.add(np.atleast_2d(waveform))
    samples = to_mono(np.atleast_2d(waveform)) if waveform.ndim == 2 else waveform.astype(np.float32)
    return MonoSound(samples, sound_level(samples), tuple(meter.faults()))


def open_sound(path: str | Path, sample_rate: int) -> MonoSound:
    """A sound file of any length, mixed to mono and resampled. Raises UsageError as `SoundReader`."""
    reader = SoundReader(path)
    in_memory: list[np.ndarray] = []
    spooled: SpooledSamples | None = None
    count, peak = 0, 0.0
    for block in _mono_blocks(reader, sample_rate):
        count += len(block)
        peak = max(peak, float(np.abs(block).max(initial=0.0)))
        if spooled is None and count > IN_MEMORY_SAMPLES:
            spooled = SpooledSamples()
            for earlier in in_memory:
                spooled.append(earlier)
            in_memory = []
        if spooled is None:
            in_memory.append(block)
        else:
            spooled.append(block)
    samples = np.concatenate(in_memory) if spooled is None else spooled
    return MonoSound(samples, sound_level(np.array([peak])), reader.faults)


def _mono_blocks(reader: SoundReader, sample_rate: int) -> Iterator[np.ndarray]:
    """A file's blocks, mixed and resampled: float32 [n]."""
    blocks = map(to_mono, reader.blocks())
    first = next(blocks)  # from here on, the file's rate is known
    yield from resample_blocks(chain([first], blocks), reader.sample_rate, sample_rate)
