"""Rows of metadata, and everything that can be wrong with them."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from recipes.data.sound_names import LABEL_JOINT, SoundNames, stem_of
from recipes.system.files import name_some

INTEGER = re.compile(r"([+-]?\d{1,9})(?:\.0*)?", re.ASCII)
"""A whole number, also as programs write a column that was once of floats: "3.0"."""

MAX_NAME_BYTES = 200


@dataclass(slots=True)
class Entry:
    """A row of the metadata.

    categories: the labels of its clip, one unless the table lists several. fold: as whole numbers are spelt, or the
    name of a split, or what stands there instead. file: the path below the folder of sounds that `filename` means, None
    where no file is there. targets: of the categories, as whole numbers are spelt, None where the table numbers no
    classes. recording: what clips cut from one sound share, "" where nothing is known.
    """

    filename: str
    categories: tuple[str, ...]
    fold: str
    file: str | None = None
    targets: tuple[str, ...] | None = None
    recording: str = ""
    esc10: bool = False
    id: str = ""

    @property
    def category(self) -> str:
        """The labels as one text."""
        return LABEL_JOINT.join(self.categories)

    @property
    def numbered(self) -> list[tuple[str, str]]:
        """Target and category of each label; none where the table numbers no classes."""
        return [] if self.targets is None else list(zip(self.targets, self.categories, strict=False))

    @property
    def name(self) -> str:
        """The file's name without its folders."""
        return self.filename.strip().rpartition("/")[2]


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


def _is_number(text: str) -> bool:
    return INTEGER.fullmatch(text) is not None


def find_faults(entries: Sequence[Entry], sounds: SoundNames, audio_folder: Path) -> list[str]:
    """Every fault of the metadata with how often it occurs and examples, as parts of a sentence."""
    faults = {
        "file names that are empty or lead to another folder": _outside_names(entries),
        f"file names that cannot be printed or are longer than {MAX_NAME_BYTES} bytes": _unfit_names(entries),
        "clips given twice": _repeated(entries),
        "folds that are no integers": _faulty_folds(entries),
        "targets that are no integers": _faulty_targets(entries),
        **_class_faults(entries),
        f"files that are not in {audio_folder}": _absent_files(entries, sounds),
    }
    parts = []
    for fault, examples in faults.items():
        if examples:
            parts.append(f"{len(examples)} {fault}: {name_some(examples)}")
    return parts


def _outside_names(entries: Sequence[Entry]) -> list[str]:
    outside = set()
    for entry in entries:
        if entry.file is None and leads_outside(entry.filename):
            outside.add(repr(entry.filename))
    return sorted(outside)


def _unfit_names(entries: Sequence[Entry]) -> list[str]:
    unfit = set()
    for entry in entries:
        fit = entry.filename.isprintable() and len(entry.filename.encode()) <= MAX_NAME_BYTES
        if not fit and not leads_outside(entry.filename):
            unfit.add(repr(entry.filename))
    return sorted(unfit)


def _repeated(entries: Sequence[Entry]) -> list[str]:
    """Clips whose id or file two rows have."""
    id_counts = Counter(entry.id for entry in entries)
    file_counts = Counter(entry.file for entry in entries)
    repeated = set()
    for entry in entries:
        shares_file = entry.file is not None and file_counts[entry.file] > 1
        if shares_file or id_counts[entry.id] > 1:
            repeated.add(stem_of(entry.name))
    return sorted(repeated)


def _faulty_folds(entries: Sequence[Entry]) -> list[str]:
    faulty = []
    for entry in entries:
        if not _is_number(entry.fold):
            faulty.append(f"{entry.fold!r} ({entry.filename})")
    return faulty


def _faulty_targets(entries: Sequence[Entry]) -> list[str]:
    faulty = []
    for entry in entries:
        for target in entry.targets or ():
            if not _is_number(target):
                faulty.append(f"{target!r} ({entry.filename})")
    return faulty


def _class_faults(entries: Sequence[Entry]) -> dict[str, list[str]]:
    categories_of, targets_of = defaultdict(set), defaultdict(set)
    unprintable, unlabelled, half_labelled, unevenly_numbered, repeated = set(), [], [], [], []
    for entry in entries:
        for target, category in entry.numbered:
            categories_of[target].add(category)
            targets_of[category].add(target)
        if not entry.category.isprintable():
            unprintable.add(repr(entry.category))
        if entry.categories == ("",):
            unlabelled.append(entry.filename)
        elif "" in entry.categories:
            half_labelled.append(entry.filename)
        if entry.targets is not None and len(entry.targets) != len(entry.categories):
            unevenly_numbered.append(f"{entry.filename} ({len(entry.targets)} for {len(entry.categories)})")
        if len(set(entry.categories)) < len(entry.categories):
            repeated.append(f"{entry.filename} ({entry.category})")
    return {
        "targets with several categories": _ambiguous(categories_of),
        "categories with several targets": _ambiguous(targets_of),
        "categories that cannot be printed": sorted(unprintable),
        "clips without a category": sorted(unlabelled),
        "clips without a category beside a separator": sorted(half_labelled),
        "clips with more or fewer targets than categories": sorted(unevenly_numbered),
        "clips that have a category twice": sorted(repeated),
    }


def _ambiguous(partners: dict[str, set[str]]) -> list[str]:
    """`name (first, second)` for each name that has several partners."""
    ambiguous = []
    for name, values in partners.items():
        if len(values) > 1:
            ambiguous.append(f"{name} ({', '.join(sorted(values))})")
    return ambiguous


def _absent_files(entries: Sequence[Entry], sounds: SoundNames) -> list[str]:
    """File names without a file, each with the file whose name differs in case only."""
    absent = set()
    for entry in entries:
        if entry.file is None and not leads_outside(entry.filename):
            similar = sounds.in_other_case(entry.filename)
            absent.add(f"{entry.filename} (there is {similar})" if similar else entry.filename)
    return sorted(absent)
