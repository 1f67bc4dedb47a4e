"""The folder that a recipe's data lies in. Imports nothing that takes time."""

from pathlib import Path

from models.errors import UsageError


def require_folder(folder: Path, download: bool) -> None:
    """Raises UsageError for a data folder that is not there: a mistyped path must not start a download of 600 MB.

    download: whether one was asked for.
    """
    if not folder.exists() and not download:
        raise UsageError(
            f"data_folder={folder} is not there: give the path of a folder laid out like ESC-50, with --data_folder or "
            "in the environment variable EARWITNESS_DATA; to download ESC-50 (600 MB) to that path, pass --download, "
            "or make the folder and leave it empty"
        )
