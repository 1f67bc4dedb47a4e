"""ESC-50 and every folder laid out like it: metadata, folds, and clips ready for training.

Layout: `<data folder>/meta/<name>.csv` with the columns filename, fold, target and category (also esc10 for
that subset, and src_file where clips were cut from one recording), and the files in `<data folder>/audio/`:
anything that libsndfile reads, any rate, mono or stereo, any length.

Source: K. J. Piczak, ESC: Dataset for Environmental Sound Classification, ACM Multimedia 2015.
"""

import csv
import logging
import os
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path

from models.errors import UsageError
from recipes.config.rules import check_all
from recipes.data.audio import read_audio
from recipes.data.cache import run_all
from recipes.system.files import name_some

logger = logging.getLogger(__name__)

COLUMNS = ("filename", "fold", "target", "category")
INTEGER = re.compile(r"\s*[+-]?\d{1,9}\s*", re.ASCII)
MAX_NAME_BYTES = 200


@dataclass(frozen=True)
class Clip:
    """One clip: `target` is the class index, `group` the recording it was cut from (else its own id)."""

    id: str
    path: Path
    fold: int
    target: int
    label: str
    group: str


@dataclass(frozen=True)
class Corpus:
    """A checked set. Class index = rank of the official target id among all clips, whatever the folds."""

    name: str
    clips: tuple[Clip, ...]
    class_names: tuple[str, ...]

    @property
    def folds(self) -> tuple[int, ...]:
        return tuple(sorted({clip.fold for clip in self.clips}))


@dataclass(frozen=True)
class FoldSplit:
    """Disjoint fold numbers: fit weights on `train`, make choices on `valid`, tell results on `test`."""

    train: tuple[int, ...]
    valid: tuple[int, ...]
    test: tuple[int, ...]


def read_corpus(data_folder: str | Path, subset: str | None = None) -> Corpus:
    """Read and check the metadata of `data_folder`; `subset="esc10"` keeps the clips that its column marks.

    Raises UsageError naming every fault at once: bad folds or targets, classes with two names, file names
    given twice or leading out of the folder, files that are not there.
    """
    data_folder = Path(data_folder)
    if subset not in (None, "esc10"):
        raise UsageError(f"subset is {subset!r}: leave it empty for the whole set or give esc10.")
    table = metadata_file(data_folder)
    rows = _read_rows(table, (*COLUMNS, "esc10") if subset else COLUMNS)
    listed = {row["filename"] for row in rows}
    if subset:
        rows = [row for row in rows if row["esc10"].strip().lower() in ("true", "1")]
        if not rows:
            raise UsageError(f"{table} marks no clip as esc10: leave subset empty.")
    present = _files(data_folder / "audio")
    _check_rows(table, rows, data_folder / "audio", present)
    surplus = sorted(name for name in present - listed if not name.startswith("."))
    if surplus:
        logger.warning("%s has no row for %d files, which are left out: %s.", table, len(surplus), name_some(surplus))

    targets = sorted({int(row["target"]) for row in rows})
    names = {int(row["target"]): row["category"].strip() for row in rows}
    clips = []
    for row in rows:
        identifier = Path(row["filename"]).stem
        clips.append(
            Clip(
                id=identifier,
                path=data_folder / "audio" / row["filename"],
                fold=int(row["fold"]),
                target=targets.index(int(row["target"])),
                label=row["category"].strip(),
                group=row.get("src_file") or identifier,
            )
        )
    return Corpus(subset or table.stem, tuple(clips), tuple(names[target] for target in targets))


def metadata_file(data_folder: Path) -> Path:
    """The one CSV file in `<data_folder>/meta`. Raises UsageError when there is none, or more than one."""
    tables = sorted(path for path in (data_folder / "meta").glob("*.csv") if not path.name.startswith("."))
    if len(tables) != 1:
        found = name_some([table.name for table in tables]) or "none"
        raise UsageError(
            f"{data_folder} must hold exactly one meta/*.csv beside audio/, found: {found}; "
            "point data_folder at a folder laid out like ESC-50."
        )
    return tables[0]


def fold_split(
    corpus: Corpus, train_folds: Sequence[int], valid_folds: Sequence[int], test_folds: Sequence[int]
) -> FoldSplit:
    """Check the three lists of folds against each other and the corpus.

    Raises UsageError when a list is empty or names a fold that the metadata lacks, when two lists share a
    fold, or when two hold clips of one recording under one label. Clips of one
    recording under *different* labels may be apart: ESC-50's own folds part four such recordings (a clock's
    tick and alarm, a hen and a rooster), and they cannot make a classifier look better than it is.
    """
    lists = {"train_folds": train_folds, "valid_folds": valid_folds, "test_folds": test_folds}
    for name, folds in lists.items():
        if not isinstance(folds, list | tuple) or not folds:
            raise UsageError(f"{name} is {folds!r}: give a list of folds out of {list(corpus.folds)}.")
        unknown = [fold for fold in folds if isinstance(fold, bool) or fold not in corpus.folds]
        if unknown:
            raise UsageError(f"{name} names {unknown}, which {corpus.name} lacks: choose from {list(corpus.folds)}.")
    for (first, a), (second, b) in combinations(lists.items(), 2):
        shared = sorted(set(a) & set(b))
        if shared:
            raise UsageError(f"{first} and {second} share the folds {shared}: give each fold to one of them.")
    _check_leakage(corpus, lists)
    return FoldSplit(tuple(train_folds), tuple(valid_folds), tuple(test_folds))


def cross_validation(corpus: Corpus) -> tuple[FoldSplit, ...]:
    """Each fold once as test, the one before it (the last for the first) as validation, the rest as training.

    Raises UsageError for fewer than three folds, and as `fold_split`.
    """
    folds = corpus.folds
    if len(folds) < 3:
        raise UsageError(f"{corpus.name} has the folds {list(folds)}: cross-validation needs at least three.")
    splits = []
    for i, test in enumerate(folds):
        valid = folds[i - 1]
        train = [fold for fold in folds if fold not in (valid, test)]
        splits.append(fold_split(corpus, train, [valid], [test]))
    return tuple(splits)


def indices(corpus: Corpus, folds: Sequence[int]) -> list[int]:
    """Positions in `corpus.clips` of the clips in these folds, in the order of the metadata."""
    return [i for i, clip in enumerate(corpus.clips) if clip.fold in folds]


def _read_rows(table: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    try:
        # utf-8-sig: spreadsheets put a byte order mark before the first column's name
        with table.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            rows = list(reader)
            found = reader.fieldnames or []
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{table} is not a CSV file in UTF-8 ({error}).") from error
    missing = [column for column in columns if column not in found]
    twice = sorted({column for column in found if found.count(column) > 1})
    if twice:
        raise UsageError(f"{table} has the columns {twice} twice: name each once.")
    if missing:
        raise UsageError(f"{table} lacks the columns {missing}: it has {list(found)}.")
    if not rows:
        raise UsageError(f"{table} lists no clips: it has only the names of columns.")
    uneven = [str(i) for i, row in enumerate(rows, 2) if None in row or None in row.values()]
    if uneven:
        raise UsageError(f"{table} has rows with too many or too few fields: rows {name_some(uneven)}.")
    return rows


def _files(folder: Path) -> set[str]:
    return {entry.name for entry in os.scandir(folder) if entry.is_file()} if folder.is_dir() else set()


def _target(row: dict[str, str]) -> str:
    """The target id as text, one spelling for each number."""
    return str(int(row["target"])) if INTEGER.fullmatch(row["target"]) else row["target"].strip()


def _check_rows(table: Path, rows: list[dict[str, str]], audio_folder: Path, present: set[str]) -> None:
    names = [row["filename"] for row in rows]
    stems = Counter(Path(name).stem for name in names)
    outside = {name for name in names if not name or name in (".", "..") or set(name) & set("/\\\0")}
    unfit = {name for name in names if not name.isprintable() or len(name.encode()) > MAX_NAME_BYTES} - outside
    labels, targets = defaultdict(set), defaultdict(set)
    for row in rows:
        labels[_target(row)].add(row["category"].strip())
        targets[row["category"].strip()].add(_target(row))

    faults = {
        "file names that are empty or lead to another folder": sorted(map(repr, outside)),
        f"file names that cannot be printed or are longer than {MAX_NAME_BYTES} bytes": sorted(map(repr, unfit)),
        "clips given twice": sorted(stem for stem, count in stems.items() if count > 1),
        "folds that are no integers": _not_integers(rows, "fold"),
        "targets that are no integers": _not_integers(rows, "target"),
        "targets with several categories": [f"{t} ({', '.join(sorted(c))})" for t, c in labels.items() if len(c) > 1],
        "categories with several targets": [f"{c} ({', '.join(sorted(t))})" for c, t in targets.items() if len(t) > 1],
        "categories that cannot be printed": sorted({repr(c) for c in targets if not c.isprintable()}),
        "clips without a category": sorted(row["filename"] for row in rows if not row["category"].strip()),
        f"files that are not in {audio_folder}": sorted(set(names) - present - outside),
    }
    found = [f"{len(what)} {fault}: {name_some(what)}" for fault, what in faults.items() if what]
    if found:
        whole = [audio_folder / name for name in sorted(set(names) & present)]
        _refuse(f"{table} cannot be used; it has {'; '.join(found)}.", whole)


def _not_integers(rows: list[dict[str, str]], column: str) -> list[str]:
    return [f"{row[column]!r} ({row['filename']})" for row in rows if not INTEGER.fullmatch(row[column])]


def _check_leakage(corpus: Corpus, lists: dict[str, Sequence[int]]) -> None:
    part_of = {fold: name for name, folds in lists.items() for fold in folds}
    parts = defaultdict(set)
    for clip in corpus.clips:
        if clip.fold in part_of:
            parts[clip.group, clip.label].add(part_of[clip.fold])
    leaking = [f"{group} ({label})" for (group, label), names in parts.items() if len(names) > 1]
    if leaking:
        _refuse(
            f"{len(leaking)} recordings of {corpus.name} have clips in several of train, valid and test: "
            f"{name_some(leaking)}; keep a recording's clips in one fold.",
            [clip.path for clip in corpus.clips],
        )


def _refuse(sentence: str, paths: Sequence[Path]) -> None:
    """Raise UsageError with a fault of the metadata and all sound files that cannot be used: one round of mending."""
    check_all(partial(run_all, partial(read_audio, seconds=1e-3), paths, os.cpu_count() or 1), told=[sentence])
