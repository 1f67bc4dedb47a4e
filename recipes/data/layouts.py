"""The layouts of data folders that are read: where the table and the sounds are, and what columns are called.

docs/data.md shows each of them.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

from models.errors import UsageError
from recipes.data.folds import SPLITS, split_of
from recipes.data.sound_files import SUFFIXES
from recipes.data.sound_names import is_litter, list_files
from recipes.data.table import Table
from recipes.system.files import name_some

ESC50_COLUMNS = {
    "filename": "filename",
    "fold": "fold",
    "target": "target",
    "category": "category",
    "src_file": "src_file",
    "esc10": "esc10",
}
URBANSOUND8K_COLUMNS = {
    "filename": "slice_file_name",
    "fold": "fold",
    "target": "classID",
    "category": "class",
    "src_file": "fsID",
}
AUDIOFOLDER_COLUMNS = {
    "filename": "file_name",
    "fold": "fold",
    "target": "target",
    "category": "label",
    "src_file": "src_file",
}

KNOWN_COLUMNS = (ESC50_COLUMNS, URBANSOUND8K_COLUMNS, AUDIOFOLDER_COLUMNS)

FOLD_FOLDER = re.compile(r"fold[ _-]?\d+", re.IGNORECASE)

EVENTS = "events.csv"
"""The table of annotated events in a data folder (`recipes.data.events`)."""
SOURCES = "sources.csv"
"""The table of known sources in a data folder (`recipes.data.sources`)."""


@dataclass(frozen=True)
class Layout:
    """Where a data folder keeps what belongs to its clips.

    tables: the metadata; none where a folder's name is its clips' class. sounds: the folder that file names start from.
    files: paths of the files below it. columns: the table's name for each of the keys of `ESC50_COLUMNS`.
    """

    name: str
    tables: tuple[Table, ...]
    sounds: Path
    files: tuple[str, ...]
    columns: Mapping[str, str]

    @cached_property
    def has_split_folders(self) -> bool:
        """Whether all sounds lie in folders of splits, such as train/ and test/."""
        sounds = 0
        for file in self.files:
            if is_sound(file):
                sounds += 1
                if not split_of(file):
                    return False
        return sounds > 0

    def prefix(self, table: Table) -> str:
        """What the file names of a table lack: the split's folder, where each split has a table of its own."""
        folder = table.path.parent.name
        return f"{folder}/" if folder.lower() in SPLITS else ""


def find_layout(data_folder: Path, columns: Mapping[str, str] = MappingProxyType({})) -> Layout:
    """The layout of a data folder. columns: other names for some of the columns, by the keys of `ESC50_COLUMNS`.

    Raises UsageError for a folder of no known layout, or with several tables that may be meant.
    """
    check_columns(columns)
    table_paths = find_tables(data_folder)
    sounds = data_folder / "audio"
    if not sounds.is_dir() and not (table_paths and table_paths[0].parent == data_folder / "meta"):
        sounds = data_folder
    files = list_files(sounds)
    if not table_paths and not _are_classes(files):
        raise _unknown_layout(data_folder, [])
    tables = tuple(map(Table.read, table_paths))
    names = dict(known_columns(tables[0])) if tables else {}
    return Layout(_set_name(data_folder, table_paths), tables, sounds, tuple(files), names | dict(columns))


def _set_name(data_folder: Path, table_paths: Sequence[Path]) -> str:
    """The name of the one table, and that of the folder where tables say nothing."""
    if len(table_paths) == 1 and table_paths[0].stem != "metadata":
        return table_paths[0].stem
    return data_folder.resolve().name


def check_columns(columns: Mapping[str, str]) -> None:
    """Raise UsageError for a column that clips do not have."""
    unknown = [key for key in columns if key not in ESC50_COLUMNS]
    if unknown:
        raise UsageError(f"columns names {name_some(unknown)}: choose from {', '.join(ESC50_COLUMNS)}")


def find_tables(data_folder: Path) -> list[Path]:
    """The metadata of a data folder: one table, one for each split, or none where a folder is a class.

    Raises UsageError where several tables may be meant.
    """
    for place in ("meta", "metadata", ""):
        tables = _csv_files(data_folder / place)
        if "metadata.csv" in tables and not place:
            tables = ["metadata.csv"]
        if len(tables) > 1:
            raise _unknown_layout(data_folder, tables)
        if tables:
            return [data_folder / place / tables[0]]
    split_tables = []
    for table in sorted(data_folder.glob("*/metadata.csv")):
        if table.parent.name.lower() in SPLITS:
            split_tables.append(table)
    return split_tables


def class_and_split(file: str) -> tuple[str, str] | None:
    """Class and split ("" without one) of a sound whose folder is its class, None for another file.

    The folders are `<class>/`, or `<split>/<class>/` as in an audiofolder of Hugging Face.
    """
    folders = file.split("/")[:-1]
    split = split_of(file)
    if split:
        folders = folders[1:]
    return (folders[0], split) if len(folders) == 1 and is_sound(file) else None


def is_sound(file: str) -> bool:
    """Whether a file's name is that of a sound file."""
    return file.lower().endswith(SUFFIXES) and not is_litter(file.rpartition("/")[2])


def _are_classes(files: Collection[str]) -> bool:
    """Whether the folders of sounds may be classes: two or more of them, not named fold1, fold2, …"""
    classes, only_folds = set(), True
    for file in files:
        place = class_and_split(file)
        if place is not None:
            classes.add(place[0])
            only_folds = only_folds and FOLD_FOLDER.fullmatch(place[0]) is not None
    return len(classes) > 1 and not only_folds


def _csv_files(folder: Path) -> list[str]:
    """Names of the tables in a folder itself. Raises UsageError for a folder that cannot be read."""
    try:
        paths = sorted(folder.iterdir()) if folder.is_dir() else []
        tables = [path for path in paths if path.suffix.lower() == ".csv" and path.is_file()]
    except OSError as error:
        raise UsageError(f"{folder} cannot be read ({error.strerror}).") from error
    names = []
    for table in tables:
        if table.name not in (EVENTS, SOURCES) and not is_litter(table.name):
            names.append(table.name)
    return names


def known_columns(table: Table) -> Mapping[str, str]:
    """The columns of the first layout whose file names the table has; ESC-50's where it has none of them."""
    for columns in KNOWN_COLUMNS:
        if table.matches(columns["filename"]):
            return columns
    return ESC50_COLUMNS


def _unknown_layout(data_folder: Path, tables: Collection[str]) -> UsageError:
    return UsageError(
        f"{data_folder} must hold exactly one meta/*.csv beside audio/, found: {name_some(list(tables)) or 'none'}; "
        "point data_folder at a folder laid out like ESC-50, or as docs/data.md shows."
    )
