"""Crops out of a folder of sound files, divided among the parts of a split so that none hears another's."""

import hashlib
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import soundfile

from models.errors import UsageError
from recipes.data.audio import SAMPLE_RATES, check_whole, resample, to_mono
from recipes.data.containers import inspect
from recipes.data.sound_files import SUFFIXES

WHAM_FOLDERS = {"train": "tr", "valid": "cv", "test": "tt"}
FIFTHS = {"train": (0, 3), "valid": (3, 4), "test": (4, 5)}
"""Which fifths of a file's length a part owns, where there are too few files to divide them."""

IN_MEMORY_SECONDS = 30 * 60

_FILTER_REACH = 64
"""Samples of the lower rate that the filter of `recipes.data.audio.resample` sees on either side."""


def check_noise_folder(folder: str | Path) -> None:
    """Raise UsageError when `folder` is no folder or holds no sound file that can be opened."""
    if not Path(folder).is_dir():
        raise UsageError(f"noise_folder={folder} is not a folder: give the path of a folder of sound files")
    for path in sound_files(Path(folder)):
        if _opens(path):
            return
    raise UsageError(
        f"noise_folder={folder} holds no readable sound file (of {' '.join(SUFFIXES)}): give a folder that does"
    )


@dataclass(frozen=True)
class Crop:
    """waveform float32 [N] out of `file`, a path within the folder.

    `offset`: where it begins, in samples of the new rate from the start of the file.
    """

    file: str
    offset: int
    waveform: np.ndarray


class NoiseFolder:
    """The sound files below `folder` that belong to one part (train, valid or test), at `sample_rate` Hz.

    - Where there are folders named tr, cv or tt, as in WHAM!, a part owns the files in its own one.
    - Else three files and more are ranked by a hash of their names: a fifth (at least one) is for test, as
      many for validation, the rest for training.
    - One or two files are divided in time: 60 % for training, 20 % for validation, the last 20 % for test.

    Files are mixed to mono. Up to `IN_MEMORY_SECONDS` of them are resampled once and kept; of more, only the
    crop that is asked for is read.

    Raises UsageError as `check_noise_folder`, when nothing is left for the part, and naming a file that
    cannot be decoded.
    """

    def __init__(self, folder: str | Path, part: str, sample_rate: int):
        folder = Path(folder)
        check_noise_folder(folder)
        self.recordings: list[Recording] = []
        for span in _divide(folder, sound_files(folder), part):
            recording = _recording(folder, span, sample_rate)
            if recording.num_samples > 0:
                self.recordings.append(recording)
        if not self.recordings:
            raise UsageError(
                f"{folder} leaves nothing for {part}: give it more or longer files, or the folder "
                f"{WHAM_FOLDERS[part]} where it has folders as WHAM! has."
            )
        self._folder, self._part = folder, part
        total = sum(recording.num_samples for recording in self.recordings)
        self._in_memory = total / sample_rate <= IN_MEMORY_SECONDS

    @property
    def description(self) -> str:
        return f"{len(self.recordings)} {self._part} recordings of {self._folder.name}"

    def draw(self, rng: np.random.Generator, num_samples: int) -> Crop:
        """A recording and an offset in it, both uniform; one shorter than the crop is repeated."""
        recording = self.recordings[rng.integers(len(self.recordings))]
        spare = recording.num_samples - num_samples
        offset = int(rng.integers(spare + 1 if spare >= 0 else recording.num_samples))
        if spare >= 0 and not self._in_memory:
            waveform = recording.read(offset, num_samples)
        else:
            whole = recording.whole if self._in_memory else recording.read(0, recording.num_samples)
            waveform = whole.take(np.arange(offset, offset + num_samples), mode="wrap")
        return Crop(recording.name, recording.offset + offset, waveform)


@dataclass(frozen=True)
class Recording:
    """Frames start .. stop of a file at `file_rate`, heard at `sample_rate`.

    `start` lies on a whole sample at both rates.
    """

    path: Path
    name: str
    file_rate: int
    sample_rate: int
    start: int
    stop: int

    @property
    def offset(self) -> int:
        """Samples at the new rate from the start of the file to the start of this recording."""
        return self.start * self.sample_rate // self.file_rate

    @property
    def num_samples(self) -> int:
        return math.ceil((self.stop - self.start) * self.sample_rate / self.file_rate)

    @cached_property
    def whole(self) -> np.ndarray:
        """float32 [num_samples]."""
        return self.read(0, self.num_samples)

    def read(self, offset: int, num_samples: int) -> np.ndarray:
        """Samples offset .. offset + num_samples, equal to those of `whole`: float32 [num_samples].

        Raises UsageError, naming the file, when it cannot be decoded or holds NaN or infinite samples.
        """
        common = math.gcd(self.file_rate, self.sample_rate)
        up, down = self.sample_rate // common, self.file_rate // common
        # every `up` samples fall on every `down` frames: a read that starts there keeps the filter's phase
        margin = math.ceil(_FILTER_REACH * max(up, down) / down)
        first = max(0, offset - margin) // up
        last = math.ceil((offset + num_samples + margin) / up)
        start, stop = self.start + first * down, min(self.start + last * down, self.stop)
        try:
            frames, _ = soundfile.read(self.path, stop - start, start=start, dtype="float32", always_2d=True)
        except (soundfile.SoundFileError, OSError) as error:
            raise UsageError(f"{self.path} cannot be decoded ({error}): replace or remove it.") from error
        if len(frames) < stop - start or not np.isfinite(frames).all():
            raise UsageError(f"{self.path} is cut off or holds NaN or infinite samples: replace or remove it.")
        resampled = resample(to_mono(frames.T), self.file_rate, self.sample_rate)
        return resampled[offset - first * up :][:num_samples]


@dataclass(frozen=True)
class _Span:
    """The share of a file, in fifths of its length."""

    path: Path
    start: int = 0
    stop: int = 5


def _divide(folder: Path, paths: Sequence[Path], part: str) -> list[_Span]:
    """What a part owns of the files, by the rules of `NoiseFolder`."""
    by_part = _wham_files(folder, paths)
    if not by_part:
        if len(paths) < 3:
            start, stop = FIFTHS[part]
            return [_Span(path, start, stop) for path in paths]
        by_part = _ranked_files(folder, paths)
    return [_Span(path) for path in by_part.get(part, [])]


def _wham_files(folder: Path, paths: Sequence[Path]) -> dict[str, list[Path]]:
    """The files of each part where folders are named as in WHAM!; empty where none is."""
    by_part = defaultdict(list)
    for path in paths:
        folders = path.relative_to(folder).parts[:-1]
        for part, name in WHAM_FOLDERS.items():
            if name in folders:
                by_part[part].append(path)
    return by_part


def _ranked_files(folder: Path, paths: Sequence[Path]) -> dict[str, list[Path]]:
    """The files of each part by the rank of a hash of their names."""

    def rank(path: Path) -> bytes:
        return hashlib.sha256(path.relative_to(folder).as_posix().encode()).digest()

    ranked = sorted(paths, key=rank)
    fifth = max(1, round(len(paths) / 5))
    return {"test": ranked[:fifth], "valid": ranked[fifth : 2 * fifth], "train": ranked[2 * fifth :]}


def _recording(folder: Path, span: _Span, sample_rate: int) -> Recording:
    name = span.path.relative_to(folder).as_posix()
    try:
        container = inspect(span.path)
        container.close()
        if not container.gives_length:
            raise UsageError(
                f"{span.path} has a header that gives no length, or another than the file holds: convert it to FLAC."
            )
        info = soundfile.info(span.path)
        check_whole(span.path, info.extra_info)
    except (soundfile.SoundFileError, OSError) as error:
        raise UsageError(f"{span.path} cannot be decoded ({error}): replace or remove it.") from error
    if info.frames == 0 or info.samplerate not in SAMPLE_RATES:
        raise UsageError(f"{span.path} holds {info.frames} frames at {info.samplerate} Hz: replace or remove it.")
    # a recording begins on a whole sample at both rates
    step = info.samplerate // math.gcd(info.samplerate, sample_rate)
    start = info.frames * span.start // 5 // step * step
    stop = info.frames if span.stop == 5 else info.frames * span.stop // 5 // step * step
    return Recording(span.path, name, info.samplerate, sample_rate, start, stop)


def sound_files(folder: Path) -> list[Path]:
    """The sound files below a folder in the order of their names; hidden ones are left out."""
    paths = []
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in SUFFIXES and not path.name.startswith("."):
            paths.append(path)
    return paths


def _opens(path: Path) -> bool:
    try:
        return soundfile.info(path).frames > 0
    except (soundfile.SoundFileError, OSError):
        return False
