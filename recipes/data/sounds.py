"""Mono sounds of any length at one rate, in memory that does not grow: long ones are kept in a temporary file."""

import math
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from models.errors import UsageError
from recipes.data.audio import SAMPLE_RATES, SoundReader, resample, resample_blocks, sound_level, to_mono
from recipes.data.signals import Fault, signal_faults

IN_MEMORY_SAMPLES = 1 << 23
"""A longer sound, of about nine minutes at 16 kHz, lies on disk."""

MAX_CHANNELS = 16
"""A waveform of two dimensions has its channels on the side that is no longer than this."""

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
    """A sound [N] of finite samples as a MonoSound."""
    samples = np.asarray(waveform, dtype=np.float32)
    return MonoSound(samples, sound_level(samples), tuple(signal_faults(samples[None])))


def sound_of(sound: object, rate: int | None, sample_rate: int) -> MonoSound:
    """Whatever a sound comes as, mixed to mono at `sample_rate` Hz.

    sound: the path of a file; a NumPy array, torch tensor or list of numbers, [N], [N, channels] as soundfile gives it
    or [channels, N] as torchaudio does; the pair (waveform, rate) that both return; or a dict with "array" and
    "sampling_rate", as data sets of Hugging Face have it. Whole numbers are taken for samples of that many bits. rate:
    of the waveform, in Hz.

    Raises UsageError for a file as `open_sound` does, a rate that is missing or twice there, a shape that cannot be
    told apart, no samples, and NaN or infinite samples.
    """
    if isinstance(sound, str | Path):
        if rate is not None:
            raise UsageError(f"rate={rate} is given for {sound}, whose file says its own: leave it out")
        return open_sound(sound, sample_rate)
    waveform, own_rate = _unpacked(sound)
    if rate is not None and own_rate is not None and rate != own_rate:
        raise UsageError(f"rate={rate} is given for a sound that comes with {own_rate} Hz: leave it out")
    channels = by_channels(as_float(waveform))
    from_rate = checked_rate(rate if own_rate is None else own_rate)
    mono = resample(to_mono(channels), from_rate, sample_rate)
    return MonoSound(mono, sound_level(mono), tuple(signal_faults(channels)))


def checked_rate(rate: Any) -> int:
    """A sample rate in Hz. Raises UsageError for one that is missing or not read."""
    if rate is None:
        raise UsageError("rate is missing: pass the waveform's sample rate in Hz, such as rate=44100")
    is_number = isinstance(rate, int | float | np.number) and not isinstance(rate, bool)
    if not is_number or not math.isfinite(rate) or rate != int(rate) or int(rate) not in SAMPLE_RATES:
        raise UsageError(f"rate={rate!r} must be a whole number of Hz from {SAMPLE_RATES[0]} to {SAMPLE_RATES[-1]}")
    return int(rate)


def as_float(waveform: Any) -> np.ndarray:
    """A waveform as float32 at full scale 1: signed samples of 8, 16 or 32 bits, or unsigned ones of 8, are scaled.

    Raises UsageError for what holds no numbers, and for whole numbers of another type, whose full scale is not known.
    """
    if hasattr(waveform, "detach"):  # a torch tensor, of any type and on any device
        waveform = waveform.detach().cpu()
        waveform = waveform.float().numpy() if waveform.is_floating_point() else waveform.numpy()
    try:
        samples = np.asarray(waveform)
    except ValueError as error:
        raise UsageError(f"a sound of type {type(waveform).__name__} holds no waveform ({error})") from error
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - 128) / 128
    if samples.dtype in (np.int8, np.int16, np.int32):
        return samples.astype(np.float32) / -float(np.iinfo(samples.dtype).min)
    if samples.dtype.kind not in "fiu":
        raise UsageError(f"a sound of type {type(waveform).__name__} holds no waveform: give an array, or a path")
    if samples.dtype.kind in "iu" and samples.size:
        raise UsageError(
            f"a sound of whole numbers of type {samples.dtype} has no known full scale: give int16 or int32, uint8, or "
            "floats from -1 to 1"
        )
    return samples.astype(np.float32)


def by_channels(samples: np.ndarray) -> np.ndarray:
    """[N], [N, channels] or [channels, N] as [channels, N].

    The channels are the side of at most `MAX_CHANNELS`. Raises UsageError where both or neither may be they, and for no
    samples, NaN and infinite samples.
    """
    shape = list(samples.shape)
    if samples.ndim == 1:
        samples = samples[None]
    elif samples.ndim != 2:
        raise UsageError(f"a sound of shape {shape} must be [samples], [samples, channels] or [channels, samples]")
    elif min(shape) > MAX_CHANNELS or max(shape) <= MAX_CHANNELS:
        raise UsageError(
            f"a sound of shape {shape} may have its samples on either side: give [samples], or at most {MAX_CHANNELS} "
            "channels of more samples; several sounds go to interpret_batch"
        )
    elif shape[0] > MAX_CHANNELS:
        samples = samples.T
    if not samples.size or not np.isfinite(samples).all():
        raise UsageError(f"a sound of shape {shape} must hold one or more samples, all of them finite")
    return samples


def _unpacked(sound: object) -> tuple[object, int | None]:
    """The waveform, and the rate that comes with it."""
    if isinstance(sound, Mapping):
        if not {"array", "sampling_rate"} <= set(sound):
            raise UsageError(f"a sound with the keys {', '.join(map(str, sound))} needs array and sampling_rate")
        return sound["array"], sound["sampling_rate"]
    if isinstance(sound, tuple) and len(sound) == 2 and np.ndim(sound[1]) == 0 and np.ndim(sound[0]) > 0:
        return sound
    return sound, None


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
