"""Sound files in and out: decode, mix to mono, resample, prepare as a clip, write.

Waveforms are float32 NumPy arrays with full scale 1.0; rates are in Hz.
"""

import io
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile
from scipy.signal import firwin, resample_poly

from models.errors import UsageError
from recipes.data.containers import Container, PatchedFile, inspect
from recipes.data.signals import SILENCE_PEAK, Fault, SignalMeter
from recipes.system.files import check_file, write_atomically

INT16_MAX = 32767
SAMPLE_RATES = range(1000, 384001)

_BLOCK = 1 << 20
_NO_LENGTH = 1 << 48
"""libsndfile's number of samples where a header gives none is larger than this."""

_FILTER_CROSSINGS = 64
_FILTER_REACH_SECONDS = 0.1
"""More than the filter sees on either side: 64 samples of the lower rate, at most 0.064 s."""

_SHORTENED = re.compile(r"^ *(?:data|SSND|riff|Data Size) *: (\d+) \(should be (\d+)\)", re.MULTILINE)
_MISCOUNTED = "does not match value from 'ds64' chunk"


@dataclass(frozen=True)
class Audio:
    """A decoded file: `waveform` float32 [channels, samples], `sample_rate` in Hz, and what is wrong with it."""

    waveform: np.ndarray
    sample_rate: int
    faults: tuple[Fault, ...] = ()


class _Decoder(soundfile.SoundFile):
    """Reads until nothing more decodes; soundfile itself stops at the length that the header gives."""

    def seekable(self) -> bool:
        return False


class SoundReader:
    """The sound of a file in blocks, decoded to its end whatever length its header gives.

    Whatever libsndfile reads is read (wav, flac, ogg, mp3, ...); the content decides, not the name. `sample_rate` in Hz
    is known from the first block on; `faults` are complete when the blocks are used up.

    Raises UsageError, naming the file, when it is missing or is no sound file; and while blocks are read, when it
    cannot be decoded to its end, holds less than its header says, is empty, or holds NaN or infinite samples.
    """

    def __init__(self, path: str | Path):
        self.path = check_file(path)
        self.sample_rate = 0
        self.count = 0
        self._declared: int | None = None
        self._remark = ""
        self._finite = True
        self._meter = SignalMeter()

    @property
    def faults(self) -> tuple[Fault, ...]:
        """What is wrong with the blocks read so far and with the file's header."""
        length = (Fault("length", self._remark),) if self._remark else ()
        return (*length, *self._meter.faults())

    def blocks(self) -> Iterator[np.ndarray]:
        """float32 [channels, samples], one after another."""
        try:
            container = inspect(self.path)
            self._declared, self._remark = container.declared, container.remark
            for block in self._without_surplus(self._decoded(container), container.slack):
                self._finite = self._finite and bool(np.isfinite(block).all())
                if self._finite:
                    self._meter.add(block)
                self.count += block.shape[1]
                yield block
        # soundfile raises TypeError for .raw files, which carry no header
        except (soundfile.SoundFileError, TypeError, OSError) as error:
            raise UsageError(
                f"{self.path} cannot be decoded ({_reason(error)}): give a whole wav, flac, ogg or mp3 file."
            ) from error
        self._check_end()

    def _decoded(self, container: Container) -> Iterator[np.ndarray]:
        """Blocks of all parts of a container."""
        channels = None
        for part in container.parts:
            source = part if isinstance(part, PatchedFile) else str(part)
            with _Decoder(source) as decoder:
                layout = (decoder.samplerate, decoder.channels)
                if channels is None:
                    self.sample_rate, channels = layout
                    if self.sample_rate not in SAMPLE_RATES:
                        raise UsageError(f"{self.path} claims a rate of {self.sample_rate} Hz: 1 to 384 kHz are read.")
                if layout != (self.sample_rate, channels):
                    raise UsageError(f"{self.path} changes its rate or number of channels on the way: divide it.")
                if isinstance(part, Path):
                    check_whole(self.path, decoder.extra_info)
                    self._declared = decoder.frames if decoder.frames < _NO_LENGTH else None
                while len(block := decoder.read(_BLOCK // channels, dtype="float32", always_2d=True)):
                    yield block.T
            if isinstance(part, PatchedFile):
                part.close()

    def _without_surplus(self, blocks: Iterator[np.ndarray], slack: int) -> Iterator[np.ndarray]:
        """The blocks, less at most `slack` samples beyond the declared length; more of them stay, with a remark."""
        count, held_back, longer = 0, [], False
        for block in blocks:
            declared = math.inf if self._declared is None or longer else self._declared
            inside = int(max(0, min(block.shape[1], declared - count)))
            count += block.shape[1]
            if inside:
                yield block[:, :inside]
            if inside == block.shape[1]:
                continue
            held_back.append(block[:, inside:])
            if count - declared > slack:
                longer = True
                yield from held_back
                held_back = []
        if longer:
            declared, held = self._declared / self.sample_rate, count / self.sample_rate
            self._remark = f"its header gives {declared:.2f} s and it holds {held:.2f} s: all of it is used"

    def _check_end(self) -> None:
        if self._declared is not None and self.count < self._declared:
            raise UsageError(f"{self.path} is cut off ({self.count} of {self._declared} samples): replace it.")
        if self.count == 0:
            raise UsageError(f"{self.path} holds no samples: replace or remove it.")
        if not self._finite:
            raise UsageError(f"{self.path} holds NaN or infinite samples: replace or remove it.")


def read_audio(path: str | Path, seconds: float = math.inf) -> Audio:
    """Decode a sound file; the faults that are told are of all of it.

    seconds: keep no more than that of its start; the rest is decoded and checked in blocks all the same.
    Raises UsageError as `SoundReader`.
    """
    reader, kept = SoundReader(path), []
    count = 0
    for block in reader.blocks():
        missing = seconds * reader.sample_rate - count
        if missing > 0:
            kept.append(block[:, : math.ceil(min(missing, block.shape[1]))])
        count += block.shape[1]
    return Audio(np.ascontiguousarray(np.concatenate(kept, axis=1)), reader.sample_rate, reader.faults)


def check_whole(path: Path, log: str) -> None:
    """Raise UsageError when a file is shorter than its header says; libsndfile tells in its log and reads on.

    A header that gives no length, as streams have, or too small a one is let pass.
    """
    is_cut = _MISCOUNTED in log
    for promised, held in _SHORTENED.findall(log):
        is_cut = is_cut or int(held) < int(promised) < 0x7FFFF000
    if is_cut:
        raise UsageError(f"{path} is cut off (its header promises more than it holds): replace it.")


def to_mono(waveform: np.ndarray) -> np.ndarray:
    """Mean over channels: [channels, samples] -> [samples]."""
    return waveform.mean(axis=0, dtype=np.float32)


def resample(waveform: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    """Band-limited resampling by the exact ratio of the two rates: [..., n] -> [..., ceil(n * to / from)].

    A polyphase filter (`scipy.signal.resample_poly`) costs the same for every pair of rates; convolution with
    a kernel per output phase, as in torchaudio, needs gigabytes for pairs without a common factor such as
    44101 and 16000. SciPy's default filter aliases (-17 dB at 500 Hz above the new band) and its pass band
    droops; here a Kaiser window over 64 zero crossings keeps the error of a tone below -115 dB up to 0.89 of
    the band edge, and below -120 dB what is left of a tone from 1.05 of it upwards.
    """
    if from_rate == to_rate:
        return waveform
    common = math.gcd(from_rate, to_rate)
    up, down = to_rate // common, from_rate // common
    resampled = resample_poly(waveform, up, down, axis=-1, window=_low_pass(max(up, down)))
    return resampled.astype(np.float32, copy=False)


def resample_blocks(blocks: Iterator[np.ndarray], from_rate: int, to_rate: int) -> Iterator[np.ndarray]:
    """`resample` of a mono sound that comes in blocks [n], in memory that does not grow with its length."""
    if from_rate == to_rate:
        yield from blocks
        return
    common = math.gcd(from_rate, to_rate)
    up, down = to_rate // common, from_rate // common
    # a piece that starts at a multiple of `down` samples keeps the filter's phase
    margin = math.ceil((_FILTER_CROSSINGS * max(up, down) / up + 1) / down) * down
    step = math.ceil(_BLOCK / down) * down
    pending, before = np.zeros(0, np.float32), 0
    for block in blocks:
        pending = np.concatenate([pending, block])
        while len(pending) - before >= step + margin:
            piece = resample(pending[: before + step + margin], from_rate, to_rate)
            yield piece[before * up // down : (before + step) * up // down]
            keep = min(before + step, margin)
            pending, before = pending[before + step - keep :], keep
    yield resample(pending, from_rate, to_rate)[before * up // down :]


def fit_length(waveform: np.ndarray, num_samples: int) -> np.ndarray:
    """The rule for other lengths: a shorter clip gets zeros at its end, a longer one keeps its start.

    [samples] -> [num_samples].
    """
    missing = num_samples - waveform.shape[-1]
    return np.pad(waveform, (0, missing)) if missing > 0 else waveform[:num_samples]


def load_audio(path: str | Path, sample_rate: int, seconds: float = math.inf) -> Audio:
    """Decode, mix and resample one file to float32 [1, samples]: `seconds` of its start or a little more, or all of it.

    Raises UsageError as `read_audio`.
    """
    audio = read_audio(path, seconds + _FILTER_REACH_SECONDS)
    mono = resample(to_mono(audio.waveform), audio.sample_rate, sample_rate)
    return Audio(mono[None], sample_rate, audio.faults)


def load_mono(path: str | Path, sample_rate: int, seconds: float = math.inf) -> np.ndarray:
    """The waveform [samples] of `load_audio`."""
    return load_audio(path, sample_rate, seconds).waveform[0]


def sound_level(waveform: np.ndarray) -> float:
    """What a sound [samples] is divided by so that its absolute peak becomes 1: that peak, and 1 for silence.

    A peak below `SILENCE_PEAK` is silence, which is left as it is: noise at the last bit is no sound.
    """
    peak = float(np.abs(waveform).max())
    return peak if peak >= SILENCE_PEAK else 1.0


def peak_normalize(waveform: np.ndarray) -> np.ndarray:
    """Divide by the absolute peak over the last axis, so that it becomes 1; silence (`sound_level`) stays as it is."""
    peak = np.abs(waveform).max(axis=-1, keepdims=True)
    return waveform / np.where(peak < SILENCE_PEAK, np.float32(1), peak)


def prepare_window(waveform: np.ndarray, num_samples: int) -> np.ndarray:
    """A stretch of mono sound as classifiers hear it, in training, scoring and for single files: [n] -> [num_samples].

    A longer one keeps its start and a shorter one gets zeros at its end; its absolute peak becomes 1, silence excepted;
    and its samples have 16 bits, as those of the cache of training clips. Preparing a prepared window changes nothing.
    """
    return from_int16(to_int16(peak_normalize(fit_length(waveform, num_samples))))


def to_int16(waveform: np.ndarray) -> np.ndarray:
    """Full scale 1.0 -> 32767, rounded; samples beyond full scale are clipped, never wrapped."""
    return np.rint(np.clip(waveform, -1.0, 1.0) * INT16_MAX).astype(np.int16)


def from_int16(samples: np.ndarray) -> np.ndarray:
    """32767 -> full scale 1.0, float32."""
    return samples * np.float32(1 / INT16_MAX)


def write_wav(path: str | Path, waveform: np.ndarray, sample_rate: int) -> None:
    """Write float [samples] as a mono 16-bit WAV, whole or not at all; samples beyond full scale are clipped.

    Raises ValueError when the waveform has another shape or holds NaN or infinite samples.
    """
    waveform = np.asarray(waveform)
    if waveform.ndim != 1 or not np.isfinite(waveform).all():
        raise ValueError(f"{path}: a WAV needs finite samples of shape [samples], not {waveform.shape}.")
    buffer = io.BytesIO()
    soundfile.write(buffer, to_int16(waveform), sample_rate, format="WAV", subtype="PCM_16")
    write_atomically(path, buffer.getvalue())


@lru_cache(maxsize=16)
def _low_pass(ratio: int) -> np.ndarray:
    """Filter for `resample_poly`: 64 zero crossings a side, Kaiser beta 12, cutoff 0.955 of the band."""
    taps = firwin(2 * _FILTER_CROSSINGS * ratio + 1, 0.955 / ratio, window=("kaiser", 12.0))
    return taps.astype(np.float32)


def _reason(error: Exception) -> str:
    """The decoder's own words without the path that soundfile puts before them."""
    detail = getattr(error, "error_string", None) or str(error)
    return str(detail).strip().rstrip(".")
