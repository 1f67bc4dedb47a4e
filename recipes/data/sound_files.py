"""Which sound files are meant by a path, a folder, a pattern or a list; nothing slow is imported here."""

import glob
from collections.abc import Iterable
from pathlib import Path

from models.errors import UsageError
from recipes.system.files import check_file

SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aif", ".aiff", ".au", ".caf", ".w64")
"""Names of the sound files that are looked for in folders."""


def find_sounds(audio: str | Path | Iterable[str | Path]) -> list[Path]:
    """The sound files that are meant by a path, a folder (all below it), a pattern such as 'calls/*.wav', or a list.

    A file that is there is meant even if its name looks like a pattern. Raises UsageError, naming all that do not lead
    to a file.
    """
    sources: dict[Path, None] = {}
    problems = []
    for asked in [audio] if isinstance(audio, str | Path) else audio:
        try:
            sources.update(dict.fromkeys(_matching(Path(asked))))
        except UsageError as error:
            problems.append(str(error))
    if problems:
        raise UsageError("; ".join(problems))
    return list(sources)


def _matching(asked: Path) -> list[Path]:
    if asked.is_dir():
        sources = sorted(filter(_is_sound_file, asked.rglob("*")))
        if not sources:
            raise UsageError(f"{asked} holds no sound file (of {' '.join(SUFFIXES)}): give a folder that does.")
        return sources
    if not asked.exists() and glob.has_magic(str(asked)):
        names = glob.glob(str(asked), recursive=True)  # noqa: PTH207 - a pattern may be absolute
        sources = sorted(filter(Path.is_file, map(Path, names)))
        if not sources:
            raise UsageError(f"no file matches the pattern {asked}: give the path of a sound file.")
        return sources
    return [check_file(asked)]


def _is_sound_file(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
