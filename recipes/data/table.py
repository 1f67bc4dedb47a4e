"""Metadata tables: CSV files as people and their programs write them."""

import csv
from collections.abc import Sequence
from pathlib import Path

from models.errors import UsageError
from recipes.system.files import name_some


def read_rows(table: Path, required: Sequence[str], optional: Sequence[str] = ()) -> list[dict[str, str]]:
    """The rows of a CSV file in UTF-8, each with the `required` columns and those of `optional` that it has.

    What programs leave behind is skipped: a byte order mark, rows without any content, columns without a name, empty
    fields at the end of a row, spaces around a column's name. The case of a column's name does not matter.

    Raises UsageError for a file that is no CSV file in UTF-8, for missing or repeated columns, for a table without
    rows, and for rows that have fewer or more fields than there are columns.
    """
    records = _records(table)
    header = records.pop(0)[1] if records else []
    places = _column_places(table, header, required, optional)
    if not records:
        raise UsageError(f"{table} lists no clips: it has only the names of columns.")
    rows, uneven = [], []
    for number, fields in records:
        if len(fields) < len(header) or any(field.strip() for field in fields[len(header) :]):
            uneven.append(str(number))
        else:
            rows.append({name: fields[place] for name, place in places.items()})
    if uneven:
        raise UsageError(f"{table} has rows with too many or too few fields: rows {name_some(uneven)}.")
    return rows


def _records(table: Path) -> list[tuple[int, list[str]]]:
    """The rows with any content, each with its number as a spreadsheet counts them."""
    try:
        # utf-8-sig: spreadsheets put a byte order mark before the first column's name
        with table.open(encoding="utf-8-sig", newline="") as file:
            records = list(csv.reader(file, strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{table} is not a CSV file in UTF-8 ({error}).") from error
    except OSError as error:
        raise UsageError(f"{table} cannot be read ({error.strerror}).") from error
    return [(number, fields) for number, fields in enumerate(records, 1) if any(field.strip() for field in fields)]


def _column_places(
    table: Path, header: Sequence[str], required: Sequence[str], optional: Sequence[str]
) -> dict[str, int]:
    """The position of each column. Raises UsageError for columns that are missing or there twice."""
    names = [name.strip() for name in header]
    repeated = {name for name in names if name and names.count(name) > 1}
    places = {}
    for wanted in (*required, *optional):
        matches = [name for name in names if name == wanted]
        if not matches:
            matches = [name for name in names if name.lower() == wanted.lower()]
        if len(matches) > 1:
            repeated.update(matches)
        elif matches:
            places[wanted] = names.index(matches[0])
    if repeated:
        raise UsageError(f"{table} has the columns {sorted(repeated)} twice: name each once.")
    missing = [wanted for wanted in required if wanted not in places]
    if missing:
        raise UsageError(f"{table} lacks the columns {missing}: it has {list(header)}{_separator_hint(header)}.")
    return places


def _separator_hint(header: Sequence[str]) -> str:
    for separator, name in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
        if len(header) == 1 and separator in header[0]:
            return f" with {name} between them; save it with commas"
    return ""
