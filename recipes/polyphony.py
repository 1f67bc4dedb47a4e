"""A corpus of several labels a clip out of one with one label: mixtures of two clips whose sources are known.

python -m recipes.polyphony path/to/ESC-50 path/to/mixtures [--snr_db=0] [--draws=1]

Every clip is mixed with another of its own fold that has another label, drawn at random, so that folds keep recordings
apart as before. `interpret.py` scores each label's explanation against its own source there. Writes
`meta/polyphony.csv`, whose categories are `dog;rain`, `audio/`, `sources/<number>/` with what each label sounds like
alone (the event, where the corpus knows it), and `sources.csv` (`recipes.data.sources`). Recipes read it with
`--label_separator=";"`. The synthetic corpus (`recipes.synthetic`) may be mixed too.
"""

import csv
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from torch.utils.data import DataLoader

from models.errors import UsageError
from recipes.data.clips import ClipDataset, ClipStore, batch_options
from recipes.data.contamination import Contamination, ContaminationSettings
from recipes.data.corpus import indices
from recipes.data.preparation import prepare
from recipes.system.entry import entry, tool_parser

SEPARATOR = ";"
HEADROOM = 0.95  # of full scale: the peak of a mixture, whose sources may be larger than itself
BATCH = 32


@dataclass(frozen=True)
class Voices:
    """A mixture of two labelled clips: its name and fold, what is heard, and for each label its sound, all [N]."""

    name: str
    fold: int
    heard: np.ndarray
    sources: dict[str, np.ndarray]


def mixtures(store: ClipStore, snr_db: float, draws: int, seed: int) -> Iterator[Voices]:
    """Every clip of a store mixed with another of its fold, as many times as there are draws; silent ones left out."""
    names = store.corpus.class_names
    for fold in store.corpus.folds:
        members = indices(store.corpus, [fold])
        mixing = Contamination(ContaminationSettings("mixture", seed, snr_db), store, "test", members)
        for draw in range(draws):
            for batch in DataLoader(ClipDataset(store, members), batch_size=BATCH, **batch_options()):
                mixture = mixing.mix(batch, draw)
                for row, index in enumerate(batch.index.tolist()):
                    added = int(mixture.added_label[row])
                    if added < 0:
                        continue
                    clip = store.corpus.clips[index]
                    sources = {clip.label: mixture.clip[row].numpy(), names[added]: mixture.added[row].numpy()}
                    yield Voices(f"{clip.id}-{draw}", fold, mixture.batch.waveform[row].numpy(), sources)


def write_corpus(folder: Path, voices: Iterator[Voices], rate: int) -> int:
    """Write mixtures into a folder, whole or not at all; returns how many. Raises UsageError for a folder in use."""
    if folder.exists():
        raise UsageError(f"{folder} is there already: name a new folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    clips, sources = [("filename", "fold", "category")], [("filename", "label", "source")]
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as stage:
        corpus = Path(stage) / "corpus"
        for place in ("audio", "meta", "sources/1", "sources/2"):
            (corpus / place).mkdir(parents=True)
        for mixture in voices:
            file = f"{mixture.name}.flac"
            peak = max(np.abs(sound).max() for sound in (mixture.heard, *mixture.sources.values()))
            gain = HEADROOM / peak
            soundfile.write(corpus / "audio" / file, gain * mixture.heard, rate, subtype="PCM_16")
            clips.append((file, str(mixture.fold), SEPARATOR.join(mixture.sources)))
            for number, (label, sound) in enumerate(mixture.sources.items(), 1):
                source = f"sources/{number}/{file}"
                soundfile.write(corpus / source, gain * sound, rate, subtype="PCM_16")
                sources.append((file, label, source))
        _write_table(corpus / "meta/polyphony.csv", clips)
        _write_table(corpus / "sources.csv", sources)
        corpus.rename(folder)
    return len(clips) - 1


def _write_table(path: Path, rows: Sequence[tuple[str, ...]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def check_labels(store: ClipStore) -> None:
    """Raise UsageError for class names that the separator would part."""
    parted = [name for name in store.corpus.class_names if SEPARATOR in name]
    if parted:
        raise UsageError(f"the class {parted[0]!r} has a {SEPARATOR!r}, which stands between labels: rename it")


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; see the module's docstring."""
    parser = tool_parser("polyphony", __doc__)
    parser.add_argument("corpus", type=Path, help="a folder of clips with one label, laid out as docs/data.md shows")
    parser.add_argument("folder", type=Path, help="a new folder for the mixtures")
    parser.add_argument("--snr_db", type=float, default=0.0, help="level of a clip over what is added to it")
    parser.add_argument("--draws", type=int, default=1, help="mixtures of each clip")
    parser.add_argument("--clip_seconds", type=float, default=5.0, help="clips are cut or padded to this length")
    parser.add_argument("--sample_rate", type=int, default=16000, help="of the mixtures, in Hz")
    parser.add_argument("--seed", type=int, default=1234, help="of the draws")
    parser.add_argument("--cache_folder", default="results/cache", help="where decoded clips are kept")
    options = parser.parse_args(arguments)
    if options.draws < 1:
        raise UsageError(f"--draws={options.draws} must be at least 1")
    if options.folder.exists():
        raise UsageError(f"{options.folder} is there already: name a new folder")
    store = prepare(options.corpus, options.cache_folder, options.sample_rate, options.clip_seconds)
    check_labels(store)
    voices = mixtures(store, options.snr_db, options.draws, options.seed)
    count = write_corpus(options.folder, voices, options.sample_rate)
    facts = {name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items()}
    (options.folder / "settings.json").write_text(json.dumps(facts, indent=2) + "\n")
    print(f'{options.folder}: {count} mixtures; read them with --label_separator="{SEPARATOR}"')


if __name__ == "__main__":
    entry(main)
