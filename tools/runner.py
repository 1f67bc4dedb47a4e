"""What the tools share: their common options, and a result that is printed as JSON and written to a file."""

import argparse
import json
from pathlib import Path

from models.errors import UsageError
from recipes.system.files import write_atomically

ROOT = Path(__file__).parents[1]


def tool_parser(name: str, description: str, seeded: bool = False) -> argparse.ArgumentParser:
    """The command line of `python -m tools.NAME` with `--out`.

    description: the tool's docstring, of which the first line is shown. seeded: also take `--seed`.
    """
    title = description.splitlines()[0]
    parser = argparse.ArgumentParser(prog=f"python -m tools.{name}", description=title, allow_abbrev=False)
    parser.add_argument("--out", type=Path, help="the JSON file to write; without it the result is only printed")
    if seeded:
        parser.add_argument("--seed", type=int, default=0, help="of every random draw")
    return parser


def positive(text: str) -> int:
    """A whole number of at least 1, for `type=` of an option."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not a number of at least 1")
    return number


def check_out(out: Path | None) -> None:
    """Refuse a result's file that cannot be written, before anything is measured. Raises UsageError."""
    if out is None:
        return
    if out.is_dir():
        raise UsageError(f"--out={out} is a folder: give the name of a JSON file")
    parent = out.parent
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir():
        raise UsageError(f"--out={out} cannot be written, because {parent} is not a folder: choose another one")


def save_result(result: dict, out: Path | None) -> None:
    """Write a result as JSON to a file, where one is named."""
    if out is not None:
        write_atomically(out, (json.dumps(result, indent=1, ensure_ascii=False) + "\n").encode())


def report_result(result: dict, out: Path | None) -> None:
    """Print a result as JSON and write it to a file, where one is named."""
    print(json.dumps(result, indent=1, ensure_ascii=False))
    save_result(result, out)
