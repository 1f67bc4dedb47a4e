"""Add a column of folds to a table that has none: python -m recipes.folds path/to/metadata.csv

Clips of one recording get one fold, and the classes are spread evenly over all. The table as it was is kept beside the
new one, with `.original` after its name.
"""

from collections.abc import Sequence
from pathlib import Path

from models.errors import UsageError
from recipes.data.folds import MADE_FOLDS, make_folds
from recipes.data.layouts import known_columns
from recipes.data.sound_names import composed
from recipes.data.table import Table
from recipes.system.entry import entry, tool_parser
from recipes.system.files import csv_of, write_atomically


def add_folds(path: Path, columns: dict[str, str], count: int = MADE_FOLDS) -> list[int]:
    """Add the column `fold` to a table and return the folds. columns: names that differ from a known layout's.

    Without a column of recordings each clip counts as a recording of its own.

    Raises UsageError as `Table.rows`, for a table that has folds, and for fewer than three of them.
    """
    if count < 3:
        raise UsageError(f"--folds={count}: training, validation and test need at least 3")
    table = Table.read(path)
    names = dict(known_columns(table)) | columns
    names.pop("esc10", None)
    rows = table.rows(names, required=("filename", "category", *columns))
    if table.matches(names["fold"]):
        raise UsageError(f"{path} has the column {names['fold']!r}: its folds are left as they are")
    recordings, labels = [], []
    for row in rows:
        recordings.append(row.get("src_file", "").strip() or row["filename"])
        labels.append(composed(row["category"].strip()))
    folds = make_folds(recordings, labels, count)
    lines = []
    for (_, fields), fold in zip(table.records, folds, strict=True):
        line = dict(zip(table.names, fields, strict=False))
        line.pop("", None)  # a column without a name
        lines.append(line | {names["fold"]: fold})
    original = path.with_name(path.name + ".original")
    if original.exists():
        raise UsageError(f"{original} is there already: remove it or rename it")
    write_atomically(original, path.read_bytes())
    write_atomically(path, csv_of(lines))
    return folds


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; see the module's docstring."""
    parser = tool_parser("folds", __doc__)
    parser.add_argument("table", type=Path, help="the CSV that is given a column of folds")
    parser.add_argument("--folds", type=int, default=MADE_FOLDS, help="how many folds")
    for column, meaning in (("filename", "sound files"), ("category", "classes"), ("src_file", "recordings")):
        parser.add_argument(f"--{column}", help=f"the column of {meaning}")
    options = parser.parse_args(arguments)
    columns = {}
    for key in ("filename", "category", "src_file"):
        if getattr(options, key):
            columns[key] = getattr(options, key)
    folds = add_folds(options.table, columns, options.folds)
    for fold in range(1, options.folds + 1):
        print(f"fold {fold}: {folds.count(fold)} clips")
    print(f"{options.table} has them now; the table as it was is {options.table}.original")


if __name__ == "__main__":
    entry(main)
