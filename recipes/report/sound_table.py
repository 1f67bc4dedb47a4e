"""sounds.csv and index.html: a row for every sound that a method has explained, however many there are."""

import csv
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType

from models.staging import STAGED
from recipes.report.page import render
from recipes.system.files import write_atomically

SHOWN = (
    "file",
    "folder",
    "seconds",
    "prediction",
    "probability",
    "target",
    "target_probability",
    "relevant_probability",
    "residual_probability",
    "kept",
    "beware",
)
"""The columns of index.html. sounds.csv has more: a probability for every class."""


class SoundTable:
    """The table of a folder of answers. Within its `with` block rows are added; at its end the files are written.

    Rows go to disk as they come. Rows of earlier runs stay, unless their folder has a new answer or none any more.

    Arguments
    ---------
    folder: the folder `audio` of a run. title: of the page.
    """

    def __init__(self, folder: Path, title: str):
        self.folder, self.title = folder, title
        self._columns: list[str] = []
        self._folders: set[str] = set()

    def __enter__(self) -> "SoundTable":
        self._new = tempfile.TemporaryFile("w+", newline="", encoding="utf-8")
        return self

    def add(self, row: Mapping[str, object]) -> None:
        """Add the row of one sound; all rows have the same keys, "folder" among them. Floats get six digits."""
        if not self._columns:
            self._columns = list(row)
        values = []
        for value in row.values():
            values.append(f"{value:.6g}" if isinstance(value, float) else value)
        csv.writer(self._new, lineterminator="\n").writerow(values)
        self._folders.add(str(row["folder"]))

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._new:
            if self._columns:
                self._write()

    def _write(self) -> None:
        earlier = self._earlier_columns()
        columns = list(self._columns)
        for column in earlier:
            if column not in self._columns:
                columns.append(column)
        shown = []
        handle, name = tempfile.mkstemp(dir=self.folder, prefix=STAGED)
        with os.fdopen(handle, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
            writer.writeheader()
            for row in self._rows():
                writer.writerow(row)
                shown.append({column: row.get(column, "") for column in SHOWN})
        Path(name).chmod(0o644)
        Path(name).replace(self.folder / "sounds.csv")
        write_atomically(self.folder / "index.html", render("sounds.html", title=self.title, rows=shown).encode())

    def _rows(self) -> Iterator[dict]:
        """Earlier rows that still hold, then the new ones."""
        if (self.folder / "sounds.csv").is_file():
            with (self.folder / "sounds.csv").open(newline="", encoding="utf-8") as file:
                for row in csv.DictReader(file, restval=""):
                    kept = row["folder"] not in self._folders
                    if kept and (self.folder / row["folder"] / "explanation.json").is_file():
                        yield row
        self._new.seek(0)
        yield from csv.DictReader(self._new, self._columns)

    def _earlier_columns(self) -> list[str]:
        try:
            with (self.folder / "sounds.csv").open(newline="", encoding="utf-8") as file:
                return next(csv.reader(file), [])
        except FileNotFoundError:
            return []
