"""Known sources: what each label of a clip sounds like alone, at its level in the clip.

`<data folder>/sources.csv` has the columns filename, label and source, a row for each label of a clip. A file name is
written as in the metadata, and `source` is the path of a sound file below the data folder, as long as the clip.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from recipes.data.corpus import Corpus
from recipes.data.metadata_faults import Entry, leads_outside
from recipes.data.sound_names import composed
from recipes.data.table import Table

COLUMNS = {"filename": "filename", "label": "label", "source": "source"}


def read_sources(path: Path, corpus: Corpus, entries: Sequence[Entry]) -> Corpus:
    """The corpus with the sources of a table, where there is one. entries: the metadata of its clips, in their order.

    Raises UsageError for files that are not there, and for clips and labels that the corpus does not have.
    """
    if not path.is_file():
        return corpus
    names = [composed(entry.filename.strip()) for entry in entries]
    labels_of = {}
    for name, clip in zip(names, corpus.clips, strict=True):
        labels_of[name] = clip.labels
    sources = _read_table(path, Counter(names), labels_of)
    clips = []
    for name, clip in zip(names, corpus.clips, strict=True):
        of_labels = tuple(sources.get((name, label)) for label in clip.labels)
        clips.append(replace(clip, sources=of_labels if any(of_labels) else ()))
    return replace(corpus, clips=tuple(clips))


def _read_table(path: Path, clip_counts: Counter, labels_of: Mapping[str, tuple]) -> dict[tuple[str, str], Path]:
    """The source of each file name and label."""
    sources: dict[tuple[str, str], Path] = {}
    faults = defaultdict(list)
    table = Table.read(path)
    for row in table.rows(COLUMNS, required=COLUMNS):
        name, label = composed(row["filename"].strip()), composed(row["label"].strip())
        source = row["source"].strip()
        if clip_counts[name] == 0:
            faults["sources of clips that the metadata lacks"].append(name)
        elif clip_counts[name] > 1:
            faults["sources of file names that several clips have"].append(name)
        elif label not in labels_of[name]:
            faults["sources of labels that their clip has not"].append(f"{label} ({name})")
        if (name, label) in sources:
            faults["sources given twice"].append(f"{label} ({name})")
        if leads_outside(source) or not (path.parent / source).is_file():
            faults[f"sources that are no file in {path.parent}"].append(source)
        sources[name, label] = path.parent / source
    table.refuse(faults)
    return sources
