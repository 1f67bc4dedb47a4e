"""From a data folder to a checked corpus: reading the metadata and telling every fault in it at once.

Source of the first layout: K. J. Piczak, ESC: Dataset for Environmental Sound Classification, ACM Multimedia 2015.
"""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from models.errors import UsageError
from recipes.data.corpus import Clip, Corpus
from recipes.data.events import read_events
from recipes.data.folds import MADE_FOLDS, complete_folds
from recipes.data.layouts import EVENTS, SOURCES, Layout, class_and_split, find_layout, is_sound
from recipes.data.metadata_faults import Entry, find_faults, leads_outside, spell_number
from recipes.data.sound_names import SoundNames, composed, is_litter, stem_of
from recipes.data.sources import read_sources
from recipes.data.splits import refuse_with_sounds
from recipes.data.table import Table
from recipes.system.files import name_some

logger = logging.getLogger(__name__)


def read_corpus(
    data_folder: str | Path,
    subset: str | None = None,
    columns: Mapping[str, str] = MappingProxyType({}),
    label_separator: str | None = None,
) -> Corpus:
    """Read and check the metadata of `data_folder`; `subset="esc10"` keeps the clips that its column marks.

    columns: other names for some of the columns (see `recipes.data.layouts`). label_separator: what stands between the
    labels of a clip, and between their targets; None: a clip has one label. The class index is the rank of the target
    among all clips, whatever the folds, or that of the class's name where the table numbers no targets.

    Raises UsageError naming every fault at once: bad folds or targets, classes with two names, labels that are empty or
    repeated, file names given twice or leading out of the folder, files that are not there.
    """
    data_folder = Path(data_folder)
    if subset not in (None, "esc10"):
        raise UsageError(f"subset is {subset!r}: leave it empty for the whole set or give esc10.")
    layout = find_layout(data_folder, columns)
    sounds = SoundNames(layout.files)
    if label_separator and not layout.tables:
        raise UsageError(f"label_separator={label_separator!r} is for tables, and {data_folder} has none: leave it out")
    entries = _read_tables(layout, sounds, subset, label_separator) if layout.tables else _read_folders(layout)
    place = str(layout.tables[0].path) if layout.tables else str(layout.sounds)
    _warn_of_surplus(place, layout, entries)
    if label_separator and all(len(entry.categories) == 1 for entry in entries):
        logger.warning("label_separator=%r is in no category of %s: each clip has one label.", label_separator, place)
    if subset:
        entries = [entry for entry in entries if entry.esc10]
        if not entries:
            raise UsageError(f"{place} marks no clip as esc10: leave subset empty.")
    set_ids(entries)
    complete_folds(layout, entries)
    faults = find_faults(entries, sounds, layout.sounds)
    if faults:
        sentence = f"{place} cannot be used; it has {'; '.join(faults)}."
        refuse_with_sounds(sentence, _usable_sounds(layout, entries))
    corpus = _build_corpus(subset or layout.name, entries, layout.sounds)
    return read_sources(data_folder / SOURCES, read_events(data_folder / EVENTS, corpus, entries), entries)


def _read_tables(layout: Layout, sounds: SoundNames, subset: str | None, label_separator: str | None) -> list[Entry]:
    entries = []
    for table in layout.tables:
        prefix = layout.prefix(table)
        _check_fold_column(layout, table)
        for row in table.rows(layout.columns, required=_required(layout, subset)):
            entry = Entry(
                prefix + row["filename"],
                tuple(map(composed, _parts(row["category"], label_separator))),
                spell_number(row.get("fold", "")),
            )
            if not leads_outside(row["filename"]):
                entry.file = sounds.find(entry.filename, entry.fold)
            if "target" in row:
                entry.targets = tuple(map(spell_number, _parts(row["target"], label_separator)))
            entry.recording = row.get("src_file", "").strip()
            entry.esc10 = row.get("esc10", "").strip().lower() in ("true", "1")
            entries.append(entry)
    return entries


def _parts(cell: str, separator: str | None) -> list[str]:
    """What a cell holds, without spaces around: one text, or those between the separators."""
    return [part.strip() for part in (cell.split(separator) if separator else [cell])]


def _required(layout: Layout, subset: str | None) -> list[str]:
    """The columns that a table must have. Splits in folders stand for folds."""
    required = ["filename", "category"]
    if not layout.has_split_folders:
        required.insert(1, "fold")
    if subset:
        required.append("esc10")
    return required


def _check_fold_column(layout: Layout, table: Table) -> None:
    """Raise UsageError for a table that lacks nothing but folds, with the command that makes them."""
    complete = table.matches(layout.columns["filename"]) and table.matches(layout.columns["category"])
    if complete and not table.matches(layout.columns["fold"]) and not layout.has_split_folders:
        raise UsageError(
            f"{table.path} has no column {layout.columns['fold']!r}: `python -m recipes.folds {table.path}` adds one "
            f"with {MADE_FOLDS} folds; classes are spread over them evenly and a recording's clips stay in one"
        )


def _read_folders(layout: Layout) -> list[Entry]:
    """The clips of a folder in which each class has a folder."""
    entries = []
    for file in layout.files:
        place = class_and_split(file)
        if place is not None:
            label, split = place
            entries.append(Entry(file, (composed(label.strip()),), split, file))
    return entries


def set_ids(entries: Sequence[Entry]) -> None:
    """Give each clip an id: its file's name without the suffix, as far as no other clip has it too.

    With the suffix where `a.wav` stands beside `a.flac`, and with its folders where `dog/1.wav` stands beside
    `cat/1.wav`.
    """
    name_counts = Counter(entry.name for entry in entries)
    stem_counts = Counter(stem_of(entry.name) for entry in entries)
    for entry in entries:
        stem = stem_of(entry.name)
        if stem_counts[stem] == 1:
            entry.id = stem
        elif name_counts[entry.name] == 1:
            entry.id = entry.name
        else:
            entry.id = (entry.file or entry.filename.strip()).replace("/", "-")


def _usable_sounds(layout: Layout, entries: Sequence[Entry]) -> list[Path]:
    """The sound files that the entries name and the folder holds, each once, in the order of their names."""
    files = {entry.file for entry in entries if entry.file is not None}
    return [layout.sounds / file for file in sorted(files)]


def _warn_of_surplus(place: str, layout: Layout, entries: Sequence[Entry]) -> None:
    listed = {entry.file for entry in entries}
    surplus = []
    for file in layout.files:
        if file not in listed and (is_sound(file) or (layout.sounds.name == "audio" and not is_litter(file))):
            surplus.append(file)
    if surplus:
        logger.warning("%s has no row for %d files, which are left out: %s.", place, len(surplus), name_some(surplus))


def _build_corpus(name: str, entries: Sequence[Entry], sounds: Path) -> Corpus:
    """The corpus of entries that have no faults."""
    class_names = _class_names(entries)
    index_of = {class_name: index for index, class_name in enumerate(class_names)}
    clips = []
    for entry in entries:
        clips.append(
            Clip(
                id=entry.id,
                path=sounds / entry.file,
                fold=int(entry.fold),
                targets=tuple(index_of[category] for category in entry.categories),
                labels=entry.categories,
                group=entry.recording or entry.id,
            )
        )
    return Corpus(name, tuple(clips), tuple(class_names))


def _class_names(entries: Sequence[Entry]) -> list[str]:
    """The categories in the order of their targets where there are any, else of their names."""
    place_of = {}
    for entry in entries:
        for category in entry.categories:
            place_of.setdefault(category, (0, category))
        for target, category in entry.numbered:
            place_of[category] = (int(target), category)
    return sorted(place_of, key=place_of.__getitem__)
