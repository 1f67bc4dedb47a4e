"""Reading what runs have left: their metrics.json, their clips, and what people call them."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path

from models.errors import UsageError


def metrics_files(run: Path) -> list[Path]:
    """A run's metrics.json files: its own, and those of its contaminations and folds.

    Raises UsageError when the folder holds none.
    """
    files = [*sorted(run.glob("metrics.json")), *sorted(run.glob("*/metrics.json"))]
    if not files:
        raise UsageError(f"{run} holds no metrics.json: give a run's folder such as results/focalnet/1234")
    return files


def result_folders(run: Path) -> Iterator[Path]:
    """The folders of a run that hold results of their own: the run and its contaminations, without its folds.

    Raises UsageError as `metrics_files`.
    """
    for path in metrics_files(run):
        is_fold = path.parent != run and path.parent.name.startswith("fold")
        if not is_fold:
            yield path.parent


def read_json(path: Path) -> dict:
    """A JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file by the names of its columns."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def run_name(result: dict) -> str:
    """What tables call an interpreter's run, given its metrics.json: "modulation, q = 0.9"."""
    quantile = result["interpreter"].get("quantile")
    return result["experiment"] if quantile is None else f"{result['experiment']}, q = {quantile}"


def condition(result: dict) -> str:
    """What is mixed into the clips of a run, and how loud it is: "clean", or "mixture, 12.0 dB"."""
    contamination = result["data"]["contamination"]
    if isinstance(contamination, str):
        return contamination
    return f"{contamination['kind']}, {contamination['snr_db']:.1f} dB"
