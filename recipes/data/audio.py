"""Sound files in and out: decode, mix to mono, resample, fit to a length, write.

Waveforms are float32 NumPy arrays with full scale 1.0; rates are in Hz.
"""

import io
import math
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile
from scipy.signal import firwin, resample_poly

from models.errors import UsageError
from recipes.system.files import write_atomically

SILENCE_PEAK = 1e-4
"""An absolute peak below this (-80 dB of full scale) counts as silence."""

INT16_MAX = 32767
SAMPLE_RATES = range(1000, 384001)
MAX_SECONDS = 15 * 60
"""The longest sound that is taken whole; of a clip only the start is, however long it is."""

_BLOCK = 1 << 22
_SHORTENED = re.compile(r"^ *(?:data|SSND|riff|Data Size) *: (\d+) \(should be (\d+)\)", re.MULTILINE)
_MISCOUNTED = "does not match value from 'ds64' chunk"


@dataclass(frozen=True)
class Audio:
    """A decoded file: `waveform` float32 [channels, samples], `sample_rate` in Hz."""

    waveform: np.ndarray
    sample_rate: int


def read_audio(path: str | Path, seconds: float = math.inf) -> Audio:
    """Decode a sound file (whatever libsndfile reads: wav, flac, ogg, ...; its content decides, not its name).

    seconds: keep no more than that of its start; the rest is decoded and checked in blocks all the same.
    Raises UsageError, naming the file, when it is missing, cannot be decoded to its end, holds less than its
    header says, is empty, or holds NaN or infinite samples.
    """
    path = check_file(path)
    try:
        with soundfile.SoundFile(str(path)) as file:
            sample_rate, expected = file.samplerate, file.frames
            check_whole(path, file.extra_info)
            wanted, count, finite, kept = seconds * sample_rate, 0, True, []
            while len(block := file.read(_BLOCK // file.channels, dtype="float32", always_2d=True)):
                finite = finite and bool(np.isfinite(block).all())
                if count < wanted:
                    kept.append(block[: math.ceil(min(wanted - count, len(block)))])
                count += len(block)
    # soundfile raises TypeError for .raw files, which carry no header
    except (soundfile.SoundFileError, TypeError, OSError) as error:
        raise UsageError(f"{path} cannot be decoded ({_reason(error)}): give a whole wav, flac or ogg file.") from error
    if count < expected:
        raise UsageError(f"{path} is cut off ({count} of {expected} samples): replace it.")
    if count == 0:
        raise UsageError(f"{path} holds no samples: replace or remove it.")
    if sample_rate not in SAMPLE_RATES:
        raise UsageError(f"{path} claims a rate of {sample_rate} Hz: 1 to 384 kHz are read.")
    if not finite:
        raise UsageError(f"{path} holds NaN or infinite samples: replace or remove it.")
    return Audio(np.ascontiguousarray(np.concatenate(kept).T), sample_rate)


def check_file(path: str | Path) -> Path:
    """The path as such. Raises UsageError where no file is, and for a name that cannot be printed."""
    path = Path(path)
    if not str(path).isprintable():
        raise UsageError(f"{str(path)!r} has characters that cannot be printed in its name: rename it.")
    if not path.is_file():
        raise UsageError(f"{path} does not exist or is not a file: give the path of a sound file.")
    return path


def check_whole(path: Path, log: str) -> None:
    """Raise UsageError when a file is shorter than its header says; libsndfile tells in its log and reads on.

    A header that gives no length, as streams have, or too small a one is let pass.
    """
    promised = [(int(said), int(held)) for said, held in _SHORTENED.findall(log)]
    if _MISCOUNTED in log or any(held < said < 0x7FFFF000 for said, held in promised):
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


def fit_length(waveform: np.ndarray, num_samples: int) -> np.ndarray:
    """The rule for other lengths: a shorter clip gets zeros at its end, a longer one keeps its start.

    [samples] -> [num_samples].
    """
    missing = num_samples - waveform.shape[-1]
    return np.pad(waveform, (0, missing)) if missing > 0 else waveform[:num_samples]


def load_mono(path: str | Path, sample_rate: int, seconds: float | None = None) -> np.ndarray:
    """Decode, mix and resample one file to float32 [samples]: `seconds` of its start or a little more, or all of it.

    Raises UsageError as `read_audio`, and for all of a sound that is longer than `MAX_SECONDS`.
    """
    limit = MAX_SECONDS if seconds is None else seconds
    audio = read_audio(path, limit + 0.1)  # the filter's reach is 64 samples of the lower rate, at most 0.064 s
    if seconds is None and audio.waveform.shape[1] > MAX_SECONDS * audio.sample_rate:
        raise UsageError(f"{path} is longer than {MAX_SECONDS / 60:g} minutes: give a part of it.")
    return resample(to_mono(audio.waveform), audio.sample_rate, sample_rate)


def peak_normalize(waveform: np.ndarray) -> np.ndarray:
    """Divide by the absolute peak over the last axis, so that it becomes 1.

    Silence (a peak below `SILENCE_PEAK`) is returned as it is: noise at the last bit is no sound.
    """
    peak = np.abs(waveform).max(axis=-1, keepdims=True)
    return waveform / np.where(peak < SILENCE_PEAK, np.float32(1), peak)


def to_int16(waveform: np.ndarray) -> np.ndarray:
    """Full scale 1.0 -> 32767, rounded; samples beyond full scale are clipped, never wrapped."""
    return np.rint(np.clip(waveform, -1.0, 1.0) * INT16_MAX).astype(np.int16)


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
    taps = firwin(2 * 64 * ratio + 1, 0.955 / ratio, window=("kaiser", 12.0))
    return taps.astype(np.float32)


def _reason(error: Exception) -> str:
    """The decoder's own words without the path that soundfile puts before them."""
    detail = getattr(error, "error_string", None) or str(error)
    return str(detail).strip().rstrip(".")
