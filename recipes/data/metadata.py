"""ESC-50 and every folder laid out like it: reading the metadata and finding every fault in it at once.

Layout: `<data folder>/meta/<name>.csv` with the columns filename, fold, target and category (also esc10 for
that subset, and src_file where clips were cut from one recording), and the files in `<data folder>/audio/`:
anything that libsndfile reads, any rate, mono or stereo, any length.

Source: K. J. Piczak, ESC: Dataset for Environmental Sound Classification, ACM Multimedia 2015.
"""

import logging
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from models.errors import UsageError
from recipes.data.corpus import Clip, Corpus, composed, refuse_with_sounds
from recipes.data.table import read_rows
from recipes.system.files import name_some

logger = logging.getLogger(__name__)

COLUMNS = ("filename", "fold", "target", "category")
INTEGER = re.compile(r"\s*([+-]?\d{1,9})(?:\.0*)?\s*", re.ASCII)
"""A whole number, also as programs write a column that was once of floats: "3.0"."""

MAX_NAME_BYTES = 200
LITTER = {"thumbs.db", "desktop.ini"}
"""Files that a system puts into folders on its own."""


@dataclass(frozen=True)
class Entry:
    """A row of the metadata. `file` is the name in the audio folder that it means, None where no file has it."""

    filename: str
    file: str | None
    fold: str
    target: str
    category: str
    recording: str
    esc10: bool

    @property
    def stem(self) -> str:
        return Path(self.filename.strip()).stem


def read_corpus(data_folder: str | Path, subset: str | None = None) -> Corpus:
    """Read and check the metadata of `data_folder`; `subset="esc10"` keeps the clips that its column marks.

    The class index is the rank of the target among all clips, whatever the folds.

    Raises UsageError naming every fault at once: bad folds or targets, classes with two names, file names
    given twice or leading out of the folder, files that are not there.
    """
    data_folder = Path(data_folder)
    if subset not in (None, "esc10"):
        raise UsageError(f"subset is {subset!r}: leave it empty for the whole set or give esc10.")
    table, audio_folder = metadata_file(data_folder), data_folder / "audio"
    sounds = SoundNames(_file_names(audio_folder))
    entries = _read_entries(table, sounds, subset)
    _warn_of_surplus(table, sounds, entries)
    if subset:
        entries = [entry for entry in entries if entry.esc10]
        if not entries:
            raise UsageError(f"{table} marks no clip as esc10: leave subset empty.")
    ids = _identifiers(entries)
    faults = _find_faults(entries, ids, sounds, audio_folder)
    if faults:
        usable = sorted({entry.file for entry in entries if entry.file is not None})
        sentence = f"{table} cannot be used; it has {'; '.join(faults)}."
        refuse_with_sounds(sentence, [audio_folder / name for name in usable])
    return _build_corpus(subset or table.stem, entries, ids, audio_folder)


def metadata_file(data_folder: Path) -> Path:
    """The one CSV file in `<data_folder>/meta`. Raises UsageError when there is none, or more than one."""
    folder = data_folder / "meta"
    tables = [name for name in sorted(_file_names(folder)) if name.lower().endswith(".csv") and not _is_litter(name)]
    if len(tables) != 1:
        raise UsageError(
            f"{data_folder} must hold exactly one meta/*.csv beside audio/, found: {name_some(tables) or 'none'}; "
            "point data_folder at a folder laid out like ESC-50."
        )
    return folder / tables[0]


class SoundNames:
    """The names of the files in a folder, to be found as a table writes them.

    A name in a table may have another Unicode form than the file (macOS decomposes "é"), or spaces around it.
    """

    def __init__(self, names: Iterable[str]):
        self.names = frozenset(names)
        self._by_composed = defaultdict(list)
        self._by_lower_case = {}
        for name in self.names:
            self._by_composed[composed(name)].append(name)
            self._by_lower_case[composed(name).lower()] = name

    def find(self, written: str) -> str | None:
        """The file's name, or None where no file has it, or several have it in other Unicode forms."""
        if written in self.names:
            return written
        for spelling in (written, written.strip()):
            matches = self._by_composed.get(composed(spelling), [])
            if len(matches) == 1:
                return matches[0]
        return None

    def in_other_case(self, written: str) -> str | None:
        """A file whose name differs in upper and lower case only."""
        return self._by_lower_case.get(composed(written.strip()).lower())


def _file_names(folder: Path) -> list[str]:
    """Names of the files in a folder, of links to files too. An absent folder has none."""
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries if _is_file(entry)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UsageError(f"{folder} cannot be read ({error.strerror}).") from error


def _is_file(entry: os.DirEntry) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link that leads to itself
        return False


def _is_litter(name: str) -> bool:
    return name.startswith((".", "~$")) or name.lower() in LITTER


def _read_entries(table: Path, sounds: SoundNames, subset: str | None) -> list[Entry]:
    required = (*COLUMNS, "esc10") if subset else COLUMNS
    entries = []
    for row in read_rows(table, required, optional=("src_file",)):
        name = row["filename"]
        entries.append(
            Entry(
                name,
                None if _leads_outside(name) else sounds.find(name),
                row["fold"].strip(),
                _spell_target(row["target"]),
                composed(row["category"].strip()),
                row.get("src_file", "").strip(),
                row.get("esc10", "").strip().lower() in ("true", "1"),
            )
        )
    return entries


def _leads_outside(name: str) -> bool:
    return name.strip() in ("", ".", "..") or not {"/", "\\", "\0"}.isdisjoint(name)


def _spell_target(text: str) -> str:
    """One spelling for each number, so that 1 and 01 are one target."""
    number = INTEGER.fullmatch(text)
    return str(int(number[1])) if number else text.strip()


def _identifiers(entries: Sequence[Entry]) -> list[str]:
    """The id of each clip: its file's name without suffix, and with it where `a.wav` stands beside `a.flac`."""
    stems = Counter(entry.stem for entry in entries)
    return [entry.stem if stems[entry.stem] == 1 else entry.filename.strip() for entry in entries]


def _warn_of_surplus(table: Path, sounds: SoundNames, entries: Sequence[Entry]) -> None:
    listed = {entry.file for entry in entries}
    surplus = sorted(name for name in sounds.names - listed if not _is_litter(name))
    if surplus:
        logger.warning("%s has no row for %d files, which are left out: %s.", table, len(surplus), name_some(surplus))


def _find_faults(entries: Sequence[Entry], ids: Sequence[str], sounds: SoundNames, audio_folder: Path) -> list[str]:
    """Every fault of the metadata with how often it occurs and examples, as parts of a sentence."""
    outside = {entry.filename for entry in entries if _leads_outside(entry.filename)}
    missing = {entry.filename for entry in entries if entry.file is None} - outside
    absent = []
    for name in sorted(missing):
        similar = sounds.in_other_case(name)
        absent.append(f"{name} (there is {similar})" if similar else name)
    faults = {
        "file names that are empty or lead to another folder": [repr(name) for name in sorted(outside)],
        f"file names that cannot be printed or are longer than {MAX_NAME_BYTES} bytes": _unfit_names(entries, outside),
        "clips given twice": _repeated(entries, ids),
        **_number_faults(entries),
        **_class_faults(entries),
        f"files that are not in {audio_folder}": absent,
    }
    return [f"{len(examples)} {fault}: {name_some(examples)}" for fault, examples in faults.items() if examples]


def _unfit_names(entries: Sequence[Entry], outside: set[str]) -> list[str]:
    unfit = set()
    for entry in entries:
        name = entry.filename
        if name not in outside and not (name.isprintable() and len(name.encode()) <= MAX_NAME_BYTES):
            unfit.add(repr(name))
    return sorted(unfit)


def _repeated(entries: Sequence[Entry], ids: Sequence[str]) -> list[str]:
    """Clips whose id or file two rows have."""
    id_counts = Counter(ids)
    file_counts = Counter(entry.file for entry in entries if entry.file is not None)
    repeated = set()
    for entry, identifier in zip(entries, ids, strict=True):
        if id_counts[identifier] > 1 or file_counts[entry.file] > 1:
            repeated.add(entry.stem)
    return sorted(repeated)


def _number_faults(entries: Sequence[Entry]) -> dict[str, list[str]]:
    folds = [f"{entry.fold!r} ({entry.filename})" for entry in entries if not INTEGER.fullmatch(entry.fold)]
    targets = [f"{entry.target!r} ({entry.filename})" for entry in entries if not INTEGER.fullmatch(entry.target)]
    return {"folds that are no integers": folds, "targets that are no integers": targets}


def _class_faults(entries: Sequence[Entry]) -> dict[str, list[str]]:
    categories_of, targets_of = defaultdict(set), defaultdict(set)
    for entry in entries:
        categories_of[entry.target].add(entry.category)
        targets_of[entry.category].add(entry.target)
    return {
        "targets with several categories": _ambiguous(categories_of),
        "categories with several targets": _ambiguous(targets_of),
        "categories that cannot be printed": sorted(repr(name) for name in targets_of if not name.isprintable()),
        "clips without a category": sorted(entry.filename for entry in entries if not entry.category),
    }


def _ambiguous(partners: dict[str, set[str]]) -> list[str]:
    """`name (first, second)` for each name that has several partners."""
    return [f"{name} ({', '.join(sorted(values))})" for name, values in partners.items() if len(values) > 1]


def _build_corpus(name: str, entries: Sequence[Entry], ids: Sequence[str], audio_folder: Path) -> Corpus:
    """The corpus of entries that have no faults."""
    category_of_target = {int(entry.target): entry.category for entry in entries}
    index_of_target = {target: index for index, target in enumerate(sorted(category_of_target))}
    clips = []
    for entry, identifier in zip(entries, ids, strict=True):
        clips.append(
            Clip(
                id=identifier,
                path=audio_folder / entry.file,
                fold=int(INTEGER.fullmatch(entry.fold)[1]),
                target=index_of_target[int(entry.target)],
                label=entry.category,
                group=entry.recording or identifier,
            )
        )
    class_names = tuple(category_of_target[target] for target in sorted(category_of_target))
    return Corpus(name, tuple(clips), class_names)
