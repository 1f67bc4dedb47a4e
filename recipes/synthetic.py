"""A synthetic corpus in ESC-50's layout, to run everything without a download and with the truth at hand.

`python -m recipes.synthetic FOLDER` writes

- `meta/synthetic.csv` and `audio/<id>.flac`, named as in ESC-50: mono, 16 bit, each clip one event over faint white
  noise;
- `truth/<id>.flac`, the event alone, sample-aligned. By `truth/support.csv` it is zero outside [onset_s, offset_s) and
  has 99 % of its energy from low_hz to high_hz. For any STFT the ideal binary mask is True where
  |STFT(event)| > |STFT(clip - event)|;
- `mixtures/<id>.flac`, gain_first * first + gain_second * second: clips of one fold and two classes, listed in
  `truth/mixtures.csv`. snr_db compares the scaled clips' RMS over their length. Both gains contain scale, which
  prevents clipping.
"""

import csv
import inspect
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import soundfile

from models.errors import UsageError
from recipes.synthetic_sounds import CLASSES, EDGE_HZ  # noqa: F401  (the edge is part of what the corpus promises)
from recipes.system.entry import entry, tool_parser

VERSION = 1  # raise it when a change here alters the sounds
FOLDS = 5
RANGES = {"seconds": (1, 60), "sample_rate": (16000, 192000), "seed": (0, 2**32 - 1), "mixtures": (0, 100000)}
FULL_SCALE = 32768
CATEGORIES = tuple(CLASSES)

CLIP_COLUMNS = ("filename", "fold", "target", "category", "esc10", "src_file", "take")
SUPPORT_COLUMNS = ("id", "onset_s", "offset_s", "low_hz", "high_hz")
MIXTURE_COLUMNS = ("id", "fold", "first", "second", "labels", "snr_db", "gain_first", "gain_second", "scale")


@dataclass(frozen=True)
class CorpusSettings:
    """What a corpus is made with; its `settings.json`."""

    clips_per_class: int
    seconds: float
    sample_rate: int
    seed: int
    mixtures: int
    version: int


@dataclass(frozen=True)
class SyntheticClip:
    """A clip and its truth: `samples` and `event` are int16 [N], the event lies in [onset, offset)."""

    id: str
    samples: np.ndarray
    event: np.ndarray
    onset: int
    offset: int
    low_hz: float
    high_hz: float


def make_clip(target: int, index: int, seconds: float, sample_rate: int, seed: int) -> SyntheticClip:
    """Clip `index` of class `target`, the same in a corpus of any size. The event fills 0.35 to 0.7 of it."""
    rng = np.random.default_rng([seed, target, index])
    total = round(seconds * sample_rate)
    event = CLASSES[CATEGORIES[target]].draw(rng, round(rng.uniform(0.35, 0.7) * total), sample_rate)
    onset = int(rng.integers(total - len(event.waveform)))
    offset = onset + len(event.waveform)
    level = np.exp(rng.uniform(*np.log([0.2, 0.8]))) / np.abs(event.waveform).max()
    alone = np.pad(_quantized(level * event.waveform), (onset, total - offset))
    noise = rng.uniform(0.0005, 0.002) * rng.standard_normal(total)
    samples = _quantized(alone / FULL_SCALE + noise)
    name = f"{index % FOLDS + 1}-{100000 + 10 * index + target}-A-{target}"
    return SyntheticClip(name, samples, alone, onset, offset, event.low_hz, event.high_hz)


def _quantized(waveform: np.ndarray) -> np.ndarray:
    return np.rint(waveform * FULL_SCALE).astype(np.int16)


def make_corpus(
    folder: str | Path,
    clips_per_class: int = 20,
    seconds: float = 2.0,
    sample_rate: int = 16000,
    seed: int = 0,
    mixtures: int = 50,
) -> Path:
    """Write the corpus into `folder`, whole or not at all, or find it there; return the folder.

    One seed gives the same bytes under one version of NumPy, SciPy and libsndfile. Raises UsageError for a
    setting out of range, and for a folder that holds anything else than a corpus of these settings.
    """
    settings = CorpusSettings(clips_per_class, float(seconds), sample_rate, seed, mixtures, VERSION)
    _check_settings(settings)
    folder = Path(folder).resolve()
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        _require_settings(folder, settings)
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as stage:
        corpus = Path(stage) / "corpus"
        _write_corpus(corpus, settings)
        return corpus.rename(folder)


def _check_settings(settings: CorpusSettings) -> None:
    """Raise UsageError for settings out of range."""
    count = settings.clips_per_class
    if count < 1 or count % FOLDS:
        raise UsageError(f"clips_per_class={count} leaves folds uneven: give a multiple of {FOLDS}.")
    for name, (low, high) in RANGES.items():
        value = getattr(settings, name)
        if not low <= value <= high:
            raise UsageError(f"{name}={value} is out of range: give a value from {low} to {high}.")


def _require_settings(folder: Path, settings: CorpusSettings) -> None:
    """Raise UsageError when a folder holds no corpus of these settings."""
    try:
        made = dict(json.loads((folder / "settings.json").read_text()))
    except (OSError, TypeError, ValueError):
        raise UsageError(f"{folder} holds no synthetic corpus but other files: name a new folder.") from None
    made_with, asked_for = [], []
    for name, value in asdict(settings).items():
        if made.get(name) != value:
            made_with.append(f"{name}={made.get(name)}")
            asked_for.append(f"{name}={value}")
    if asked_for:
        raise UsageError(
            f"{folder} was made with {', '.join(made_with)}, not with {', '.join(asked_for)}: "
            "name a new folder or remove it."
        )


def _write_corpus(folder: Path, settings: CorpusSettings) -> None:
    for kind in ("meta", "audio", "truth", "mixtures"):
        (folder / kind).mkdir(parents=True)
    clip_rows, support_rows = _write_clips(folder, settings)
    mixture_rows = _write_mixtures(folder, settings)
    _write_table(folder / "meta/synthetic.csv", CLIP_COLUMNS, clip_rows)
    _write_table(folder / "truth/support.csv", SUPPORT_COLUMNS, support_rows)
    _write_table(folder / "truth/mixtures.csv", MIXTURE_COLUMNS, mixture_rows)
    (folder / "settings.json").write_text(json.dumps(asdict(settings), indent=2) + "\n")


def _write_clips(folder: Path, settings: CorpusSettings) -> tuple[list[tuple], list[tuple]]:
    """The clips and their events as sound files; rows of `CLIP_COLUMNS` and of `SUPPORT_COLUMNS`."""
    clip_rows, support_rows, rate = [], [], settings.sample_rate
    for target, category in enumerate(CATEGORIES):
        for index in range(settings.clips_per_class):
            clip = make_clip(target, index, settings.seconds, rate, settings.seed)
            _write_sound(folder / f"audio/{clip.id}.flac", clip.samples, rate)
            _write_sound(folder / f"truth/{clip.id}.flac", clip.event, rate)
            fold, source, take, _ = clip.id.split("-")
            clip_rows.append((f"{clip.id}.flac", fold, target, category, False, source, take))
            support_rows.append((clip.id, clip.onset / rate, clip.offset / rate, clip.low_hz, clip.high_hz))
    return clip_rows, support_rows


def _write_mixtures(folder: Path, settings: CorpusSettings) -> list[tuple]:
    """The mixtures as sound files; rows of `MIXTURE_COLUMNS`."""
    rows = []
    for index in range(settings.mixtures):
        rng = np.random.default_rng([settings.seed, len(CLASSES), index])
        fold = index % FOLDS
        targets = rng.permutation(len(CLASSES))[:2].tolist()
        snr_db = rng.uniform(-5, 5)
        first, second = _draw_pair(rng, targets, fold, settings)
        waves = first.samples / FULL_SCALE, second.samples / FULL_SCALE
        gain = np.linalg.norm(waves[0]) / np.linalg.norm(waves[1]) * 10 ** (-snr_db / 20)
        scale = min(1.0, 0.95 / np.abs(waves[0] + gain * waves[1]).max())
        name = f"{fold + 1}-{index:05d}-M"
        labels = f"{CATEGORIES[targets[0]]} {CATEGORIES[targets[1]]}"
        mixture = _quantized(scale * waves[0] + scale * gain * waves[1])
        _write_sound(folder / f"mixtures/{name}.flac", mixture, settings.sample_rate)
        rows.append((name, fold + 1, first.id, second.id, labels, snr_db, scale, scale * gain, scale))
    return rows


def _draw_pair(
    rng: np.random.Generator, targets: Sequence[int], fold: int, settings: CorpusSettings
) -> list[SyntheticClip]:
    """A clip of each class, out of one fold."""
    clips = []
    for target in targets:
        index = fold + FOLDS * int(rng.integers(settings.clips_per_class // FOLDS))
        clips.append(make_clip(target, index, settings.seconds, settings.sample_rate, settings.seed))
    return clips


def _write_sound(path: Path, samples: np.ndarray, sample_rate: int) -> None:
    soundfile.write(path, samples, sample_rate, subtype="PCM_16")


def _write_table(path: Path, columns: Sequence[str], rows: list[tuple]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(sorted(rows))


def main(arguments: Sequence[str]) -> None:
    """Entry point; see the module's docstring."""
    parser = tool_parser("synthetic", __doc__)
    parser.add_argument("folder", help="where the corpus goes; a new folder, or one made with the same settings")
    for name, parameter in list(inspect.signature(make_corpus).parameters.items())[1:]:
        default = parameter.default
        parser.add_argument(f"--{name}", type=type(default), default=default, help=f"{default} where it is left out")
    print(make_corpus(**vars(parser.parse_args(arguments))))


if __name__ == "__main__":
    entry(main)
