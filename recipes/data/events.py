"""Annotated events: when in a clip the sound that its label names is heard.

`<data folder>/events.csv` has the columns filename, start, end and label, times in seconds from the clip's start, a row
for each event. A file name is written as in the metadata. Events with another label than the clip's are left aside, and
a clip without events counts as a whole. So are the events of clips of several labels: only mixtures of clips of one
label ask for them.
"""

import logging
import math
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from recipes.data.corpus import Corpus, Event
from recipes.data.metadata_faults import Entry
from recipes.data.sound_names import composed
from recipes.data.table import Table

logger = logging.getLogger(__name__)

COLUMNS = {"filename": "filename", "start": "start", "end": "end", "label": "label"}
DESED_COLUMNS = {"filename": "filename", "start": "onset", "end": "offset", "label": "event_label"}


def read_events(path: Path, corpus: Corpus, entries: Sequence[Entry]) -> Corpus:
    """The corpus with the events of a table, where there is one. entries: the metadata of its clips, in their order.

    Raises UsageError for times that are no spans, and for files and labels that the corpus does not have.
    """
    if not path.is_file():
        return corpus
    if corpus.has_several:
        logger.warning("%s is not used for clips of several labels.", path)
    names = [composed(entry.filename.strip()) for entry in entries]
    events = _read_table(path, Counter(names), set(corpus.class_names))
    clips = []
    for name, clip in zip(names, corpus.clips, strict=True):
        spans = sorted(events.get((name, clip.label), []), key=lambda event: event.start)
        clips.append(replace(clip, events=tuple(spans)))
    return replace(corpus, clips=tuple(clips))


def _read_table(path: Path, clip_counts: Counter, labels: Collection[str]) -> dict[tuple[str, str], list[Event]]:
    """The events of each file name and label."""
    table = Table.read(path)
    columns = DESED_COLUMNS if table.matches("onset") else COLUMNS
    events, faults = defaultdict(list), defaultdict(list)
    for row in table.rows(columns, required=columns):
        name, label = composed(row["filename"].strip()), composed(row["label"].strip())
        start, end = _seconds(row["start"]), _seconds(row["end"])
        if not 0 <= start < end:
            faults["events that do not end after they start"].append(f"{name} ({row['start']} to {row['end']})")
        if clip_counts[name] == 0:
            faults["events of clips that the metadata lacks"].append(name)
        if clip_counts[name] > 1:
            faults["events of file names that several clips have"].append(name)
        if label not in labels:
            faults["events with a label that no clip has"].append(label)
        events[name, label].append(Event(start, end))
    table.refuse(faults)
    return events


def _seconds(text: str) -> float:
    """A time in seconds, NaN for anything else."""
    try:
        seconds = float(text)
    except ValueError:
        return math.nan
    return seconds if math.isfinite(seconds) else math.nan
