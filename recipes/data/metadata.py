"""From a data folder to a checked corpus: reading the metadata and telling every fault in it at once.

Source of the first layout: K. J. Piczak, ESC: Dataset for Environmental Sound Classification, ACM Multimedia 2015.
"""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from models.errors import UsageError
from recipes.data.corpus import Clip, Corpus, refuse_with_sounds
from recipes.data.events import read_events
from recipes.data.folds import MADE_FOLDS, SPLITS, esc_names, folds_of_splits, make_folds
from recipes.data.layouts import EVENTS, Layout, class_and_split, find_layout, is_sound, split_of
from recipes.data.metadata_faults import Entry, find_faults, leads_outside, spell_number, whole_number
from recipes.data.sound_names import SoundNames, composed, is_litter, stem_of
from recipes.data.table import Table
from recipes.system.files import name_some

logger = logging.getLogger(__name__)


def read_corpus(
    data_folder: str | Path, subset: str | None = None, columns: Mapping[str, str] = MappingProxyType({})
) -> Corpus:
    """Read and check the metadata of `data_folder`; `subset="esc10"` keeps the clips that its column marks.

    columns: other names for some of the columns (see `recipes.data.layouts`). The class index is the rank of the
    target among all clips, whatever the folds, or that of the class's name where the table numbers no targets.

    Raises UsageError naming every fault at once: bad folds or targets, classes with two names, file names
    given twice or leading out of the folder, files that are not there.
    """
    data_folder = Path(data_folder)
    if subset not in (None, "esc10"):
        raise UsageError(f"subset is {subset!r}: leave it empty for the whole set or give esc10.")
    layout = find_layout(data_folder, columns)
    sounds = SoundNames(layout.files)
    entries = _read_tables(layout, sounds, subset) if layout.tables else _read_folders(layout)
    place = str(layout.tables[0].path) if layout.tables else str(layout.sounds)
    _warn_of_surplus(place, layout, entries)
    if subset:
        entries = [entry for entry in entries if entry.esc10]
        if not entries:
            raise UsageError(f"{place} marks no clip as esc10: leave subset empty.")
    ids = make_ids(entries)
    entries = _with_folds(layout, entries, ids)
    faults = find_faults(entries, ids, sounds, layout.sounds)
    if faults:
        usable = sorted({entry.file for entry in entries if entry.file is not None})
        sentence = f"{place} cannot be used; it has {'; '.join(faults)}."
        refuse_with_sounds(sentence, [layout.sounds / name for name in usable])
    corpus = _build_corpus(subset or layout.name, entries, ids, layout.sounds)
    return read_events(data_folder / EVENTS, corpus, dict(zip(ids, (entry.filename for entry in entries), strict=True)))


def _read_tables(layout: Layout, sounds: SoundNames, subset: str | None) -> list[Entry]:
    entries = []
    for table in layout.tables:
        prefix = layout.prefix(table)
        _check_fold_column(layout, table)
        for row in table.rows(layout.columns, required=_required(layout, subset)):
            filename, fold = prefix + row["filename"], spell_number(row.get("fold", ""))
            entries.append(
                Entry(
                    filename,
                    None if leads_outside(row["filename"]) else sounds.find(filename, fold),
                    fold,
                    spell_number(row["target"]) if "target" in row else None,
                    composed(row["category"].strip()),
                    row.get("src_file", "").strip(),
                    row.get("esc10", "").strip().lower() in ("true", "1"),
                )
            )
    return entries


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
    present = {key for key in ("filename", "fold", "category") if table.matches(layout.columns[key])}
    if present == {"filename", "category"} and not layout.has_split_folders:
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
            entries.append(Entry(file, file, split, None, composed(label.strip()), ""))
    return entries


def make_ids(entries: Sequence[Entry]) -> list[str]:
    """An id for each clip: its file's name without the suffix, as far as that tells it from the others.

    With the suffix where `a.wav` stands beside `a.flac`, and with its folders where `dog/1.wav` stands beside
    `cat/1.wav`.
    """
    paths = [entry.filename.strip() for entry in entries]
    names = [path.rpartition("/")[2] for path in paths]
    stems = [stem_of(name) for name in names]
    name_counts, stem_counts = Counter(names), Counter(stems)
    ids = []
    for entry, path, name, stem in zip(entries, paths, names, stems, strict=True):
        if stem_counts[stem] == 1:
            ids.append(stem)
        elif name_counts[name] == 1:
            ids.append(name)
        else:
            ids.append((entry.file or path).replace("/", "-"))
    return ids


def _with_folds(layout: Layout, entries: Sequence[Entry], ids: Sequence[str]) -> list[Entry]:
    """Entries with fold numbers, where they have splits instead, or a folder for each class and no folds at all.

    How folds came about is told. Folds that a table gives are left as they are.
    """
    entries = list(entries)
    if layout.has_split_folders and all(not entry.fold for entry in entries):
        entries = [replace(entry, fold=split_of(entry.file or entry.filename)) for entry in entries]
    splits = [SPLITS.get(entry.fold.lower(), "") for entry in entries]
    if layout.tables and not all(splits):
        return entries
    recordings = [entry.recording or identifier for entry, identifier in zip(entries, ids, strict=True)]
    labels = [entry.category for entry in entries]
    named = esc_names([stem_of(entry.filename.rpartition("/")[2]) for entry in entries])
    if all(splits):
        folds = folds_of_splits(splits, recordings, labels)
        training = "1 to 3" if "valid" in splits else "1 to 4"
        told = f"its training split is folds {training}, validation is fold 4 and the test split fold 5"
    elif named is not None:
        folds = [fold for fold, _ in named]
        entries = [replace(entry, recording=recording) for entry, (_, recording) in zip(entries, named, strict=True)]
        told = "the first number of each file's name is its fold and the second its recording, as in ESC-50"
    else:
        folds = make_folds(recordings, labels)
        told = f"{MADE_FOLDS} were made with the classes spread evenly, and each file counts as a recording of its own"
    logger.warning("%s has no numbered folds: %s.", layout.name, told)
    return [replace(entry, fold=str(fold)) for entry, fold in zip(entries, folds, strict=True)]


def _warn_of_surplus(place: str, layout: Layout, entries: Sequence[Entry]) -> None:
    listed = {entry.file for entry in entries}
    surplus = []
    for file in layout.files:
        if file not in listed and (is_sound(file) or (layout.sounds.name == "audio" and not is_litter(file))):
            surplus.append(file)
    if surplus:
        logger.warning("%s has no row for %d files, which are left out: %s.", place, len(surplus), name_some(surplus))


def _build_corpus(name: str, entries: Sequence[Entry], ids: Sequence[str], sounds: Path) -> Corpus:
    """The corpus of entries that have no faults."""
    ranks = _class_ranks(entries)
    class_names = sorted(ranks, key=ranks.get)
    clips = []
    for entry, identifier in zip(entries, ids, strict=True):
        clips.append(
            Clip(
                id=identifier,
                path=sounds / entry.file,
                fold=whole_number(entry.fold),
                target=ranks[entry.category],
                label=entry.category,
                group=entry.recording or identifier,
            )
        )
    return Corpus(name, tuple(clips), tuple(class_names))


def _class_ranks(entries: Sequence[Entry]) -> dict[str, int]:
    """The class index of each category: in the order of targets where there are any, else of names."""
    order = {}
    for entry in entries:
        order[entry.category] = 0 if entry.target is None else whole_number(entry.target)
    ranked = sorted(order, key=lambda category: (order[category], category))
    return {category: rank for rank, category in enumerate(ranked)}
