"""Metadata tables: CSV files as people and their programs write them."""

import csv
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from models.errors import UsageError
from recipes.system.files import name_some


@dataclass(frozen=True)
class Table:
    """A CSV file as it was read. records: each row's number, as a spreadsheet counts them, and its fields."""

    path: Path
    header: tuple[str, ...]
    records: tuple[tuple[int, list[str]], ...]

    @classmethod
    def read(cls, path: Path) -> "Table":
        """A CSV file in UTF-8; a byte order mark and rows without any content are skipped.

        Raises UsageError for what is no such file.
        """
        try:
            # utf-8-sig: spreadsheets put a byte order mark before the first column's name
            with path.open(encoding="utf-8-sig", newline="") as file:
                records = list(csv.reader(file, strict=True))
        except (UnicodeDecodeError, csv.Error) as error:
            raise UsageError(f"{path} is not a CSV file in UTF-8 ({error}).") from error
        except OSError as error:
            raise UsageError(f"{path} cannot be read ({error.strerror}).") from error
        numbered = []
        for number, fields in enumerate(records, 1):
            if any(map(str.strip, fields)):
                numbered.append((number, fields))
        header = tuple(numbered[0][1]) if numbered else ()
        return cls(path, header, tuple(numbered[1:]))

    @cached_property
    def names(self) -> list[str]:
        """The columns' names without spaces around them."""
        return list(map(str.strip, self.header))

    def matches(self, column: str) -> list[str]:
        """The names that a column may be meant by: its own, else those in another case."""
        exact = [name for name in self.names if name == column]
        return exact or [name for name in self.names if name.lower() == column.lower()]

    def rows(self, columns: Mapping[str, str], required: Collection[str]) -> list[dict[str, str]]:
        """The rows as dictionaries.

        columns: the table's column for each key of such a dictionary. A key whose column is not there is left out.
        required: keys that must be there. Empty fields at the end of a row are skipped, as are columns without a name.

        Raises UsageError for missing or repeated columns, for a table without rows, and for rows that have fewer or
        more fields than there are columns.
        """
        places = self._places(columns, required)
        if not self.records:
            raise UsageError(f"{self.path} lists no clips: it has only the names of columns.")
        width, rows, uneven = len(self.header), [], []
        for number, fields in self.records:
            if len(fields) < width or any(map(str.strip, fields[width:])):
                uneven.append(str(number))
            else:
                row = {}
                for key, place in places.items():
                    row[key] = fields[place]
                rows.append(row)
        if uneven:
            raise UsageError(f"{self.path} has rows with too many or too few fields: rows {name_some(uneven)}.")
        return rows

    def refuse(self, faults: Mapping[str, Sequence[str]]) -> None:
        """Raise UsageError where there are faults. faults: by what they are, where they were found."""
        if not faults:
            return
        parts = []
        for fault, places in faults.items():
            parts.append(f"{len(places)} {fault}: {name_some(places)}")
        raise UsageError(f"{self.path} cannot be used; it has {'; '.join(parts)}.")

    def _places(self, columns: Mapping[str, str], required: Collection[str]) -> dict[str, int]:
        """The position of each column."""
        name_counts = Counter(self.names)
        repeated = set()
        for name in self.names:
            if name and name_counts[name] > 1:
                repeated.add(name)
        places, missing = {}, []
        for key, column in columns.items():
            matches = self.matches(column)
            if len(matches) > 1:
                repeated.update(matches)
            elif matches:
                places[key] = self.names.index(matches[0])
            elif key in required:
                missing.append(column)
        if repeated:
            raise UsageError(f"{self.path} has the columns {sorted(repeated)} twice: name each once.")
        if missing:
            hint = _separator_hint(self.header)
            raise UsageError(f"{self.path} lacks the columns {missing}: it has {list(self.header)}{hint}.")
        return places


def _separator_hint(header: Sequence[str]) -> str:
    for separator, name in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
        if len(header) == 1 and separator in header[0]:
            return f" with {name} between them; save it with commas"
    return ""
