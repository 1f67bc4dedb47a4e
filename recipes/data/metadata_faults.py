"""Rows of metadata, and everything that can be wrong with them."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from recipes.data.sound_names import SoundNames
from recipes.system.files import name_some

INTEGER = re.compile(r"([+-]?\d{1,9})(?:\.0*)?", re.ASCII)
"""A whole number, also as programs write a column that was once of floats: "3.0"."""

MAX_NAME_BYTES = 200


@dataclass(slots=True)
class Entry:
    """A row of the metadata. `file` is the path below the folder of sounds that it means, None where there is none.

    fold, target: as whole numbers are spelt, or what stands there instead; a table may have no targets. recording:
    what clips cut from one sound share, "" where nothing is known. (Not frozen: sets have 100 000 of them.)
    """

    filename: str
    file: str | None
    fold: str
    target: str | None
    category: str
    recording: str
    esc10: bool = False


def leads_outside(name: str) -> bool:
    """Whether a file name is empty or leads out of its folder."""
    name = name.strip()
    if name in ("", ".", "..") or "\\" in name or "\0" in name:
        return True
    return "/" in name and (name.startswith("/") or not {"", "..", "."}.isdisjoint(name.split("/")))


def spell_number(text: str) -> str:
    """One spelling for each whole number, so that 1, 01 and 1.0 are one; other text without spaces around it."""
    text = text.strip()
    number = INTEGER.fullmatch(text)
    return str(int(number[1])) if number else text


def whole_number(text: str) -> int:
    """The number that `spell_number` has spelt."""
    return int(text)


def _is_number(text: str) -> bool:
    return INTEGER.fullmatch(text) is not None


def find_faults(entries: Sequence[Entry], ids: Sequence[str], sounds: SoundNames, audio_folder: Path) -> list[str]:
    """Every fault of the metadata with how often it occurs and examples, as parts of a sentence."""
    outside = {entry.filename for entry in entries if leads_outside(entry.filename)}
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
            repeated.add(Path(entry.filename.strip()).stem)
    return sorted(repeated)


def _number_faults(entries: Sequence[Entry]) -> dict[str, list[str]]:
    folds = [f"{entry.fold!r} ({entry.filename})" for entry in entries if not _is_number(entry.fold)]
    targets = []
    for entry in entries:
        if entry.target is not None and not _is_number(entry.target):
            targets.append(f"{entry.target!r} ({entry.filename})")
    return {"folds that are no integers": folds, "targets that are no integers": targets}


def _class_faults(entries: Sequence[Entry]) -> dict[str, list[str]]:
    categories_of, targets_of = defaultdict(set), defaultdict(set)
    for entry in entries:
        targets = targets_of[entry.category]
        if entry.target is not None:
            categories_of[entry.target].add(entry.category)
            targets.add(entry.target)
    return {
        "targets with several categories": _ambiguous(categories_of),
        "categories with several targets": _ambiguous(targets_of),
        "categories that cannot be printed": sorted(repr(name) for name in targets_of if not name.isprintable()),
        "clips without a category": sorted(entry.filename for entry in entries if not entry.category),
    }


def _ambiguous(partners: dict[str, set[str]]) -> list[str]:
    """`name (first, second)` for each name that has several partners."""
    return [f"{name} ({', '.join(sorted(values))})" for name, values in partners.items() if len(values) > 1]
