"""The README's result tables, from the metrics.json files kept under docs/results.

python -m recipes.tables --keep results/modulation/1234      copy a run's metrics.json into docs/results
python -m recipes.tables                                      write the tables into README.md
"""

import argparse
import json
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from models.errors import UsageError
from recipes.scoring.scores import COLUMNS
from recipes.system.files import write_atomically

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "results"


def keep(run: Path) -> list[Path]:
    """Copy a run's metrics.json, and those of its contaminations, into docs/results; returns the copies.

    A cross-validation is kept as its summary, without its folds.

    Of weights that were a file on this machine the copy keeps the name alone.

    Raises UsageError when the folder holds none.
    """
    copies = []
    for path in metrics_of(run):
        if path.parent != run and path.parent.name.startswith("fold"):
            continue
        content = json.loads(path.read_text(encoding="utf-8"))
        part = "" if path.parent == run else f"_{path.parent.name}"
        copies.append(RESULTS / f"{content['experiment']}{part}.json")
        write_atomically(copies[-1], re.sub(rb'("weights": ")/[^"]*/', rb"\1", path.read_bytes()))
    return copies


def metrics_of(run: Path) -> list[Path]:
    """A run's metrics.json files: its own, and those of its contaminations and folds. Raises UsageError as `keep`."""
    found = sorted(run.glob("metrics.json")) + sorted(run.glob("*/metrics.json"))
    if not found:
        raise UsageError(f"{run} holds no metrics.json: give a run's folder such as results/focalnet/1234")
    return found


def load() -> list[dict]:
    """Every kept result, in the order of file names."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("*.json"))]


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def classifier_table(results: list[dict]) -> str:
    """Classifiers: chosen on the validation fold, reported on the test fold."""
    rows = [
        [
            one["experiment"],
            _millions(one["training"]["parameters"]),
            _origin(one["classifier"]["weights"]),
            str(one["training"]["epochs"]),
            number(one["training"].get("valid_acc")),
            number(one["metrics"]["acc"])
            + (f" ± {one['spread']['acc']:.2g}, {len(one['folds']['acc'])} folds" if "spread" in one else ""),
            one["device"],
        ]
        for one in results
        if one["interpreter"] is None
    ]
    return markdown(["recipe", "parameters", "weights", "epochs", "valid ACC", "test ACC", "device"], rows)


def interpreter_table(results: list[dict]) -> str:
    """Interpreters on the test fold, clean and contaminated, every score that each has."""
    rows = []
    for one in sorted(results, key=lambda one: (condition(one), one["experiment"])):
        if one["interpreter"] is not None:
            scores = [number(one["metrics"].get(key)) for key in COLUMNS]
            spread = " / ".join(f"{value:.2f}" for value in one["interpreter"].get("kept_quartiles", []))
            rows.append([label(one), one["classifier"]["experiment"], condition(one), *scores, spread])
    return markdown(["recipe", "classifier", "clips", *COLUMNS.values(), "kept: min / quartiles / max"], rows)


def sweep_table(results: list[dict]) -> str:
    """FID-I and FA at every quantile of the kept sweeps (Figure 3 of the FocalNet paper)."""
    rows = [
        [
            one["experiment"],
            *(number(row[key]) for key in ("quantile", "fid_i", "fa", "fa_raw_cosine", "kept")),
        ]
        for one in results
        if condition(one) == "clean"
        for row in one.get("sweep", [])
    ]
    return markdown(["recipe", "q", "FID-I", "FA", "FA, raw cosines", "kept"], rows)


def published_tables() -> str:
    """The papers' figures, each table above its source."""
    parts = []
    for one in json.loads((ROOT / "docs" / "published.json").read_text(encoding="utf-8")):
        rows = [[row["name"], *(row[key] for key in one["columns"])] for row in one["rows"]]
        parts.append(f"{markdown(['published', *one['columns'].values()], rows)}\n\n{one['source']}.")
    return "\n\n".join(parts)


def fill(text: str, results: list[dict]) -> str:
    """The README with its tables replaced, each between `<!-- name -->` and `<!-- /name -->`."""
    tables = {
        "classifiers": classifier_table(results),
        "interpreters": interpreter_table(results),
        "sweeps": sweep_table(results),
        "published": published_tables(),
    }
    return place(text, tables)


def place(text: str, tables: dict[str, str]) -> str:
    """A text with each table between `<!-- name -->` and `<!-- /name -->` replaced."""
    for name, table in tables.items():
        text = re.sub(
            rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)",
            lambda found, table=table: f"{found[1]}{table}\n{found[2]}",
            text,
            flags=re.DOTALL,
        )
    return text


def label(result: dict) -> str:
    """What tables call a run of an interpreter."""
    quantile = result["interpreter"].get("quantile")
    return result["experiment"] + ("" if quantile is None else f", q = {quantile}")


def condition(result: dict) -> str:
    """What is mixed into the clips of a run, and how much."""
    kind = result["data"]["contamination"]
    return kind if isinstance(kind, str) else f"{kind['kind']}, {kind['snr_db']:.1f} dB"


def _origin(weights: str) -> str:
    return weights if weights == "from scratch" else f"pretrained: {Path(weights).name}"


def number(value: float | None) -> str:
    """Three significant digits, or nothing for what is undefined."""
    return "" if value is None else f"{value:.3g}"


def _millions(count: float) -> str:
    return f"{count / 1e6:.1f}M"


def main(arguments: list[str]) -> None:
    """Entry point; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m recipes.tables", description=__doc__.splitlines()[0])
    parser.add_argument("--keep", type=Path, nargs="+", default=[], help="runs whose metrics.json to copy first")
    for run in parser.parse_args(arguments).keep:
        print(*keep(run), sep="\n")
    readme = ROOT / "README.md"
    write_atomically(readme, fill(readme.read_text(encoding="utf-8"), load()).encode())


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UsageError as mistake:
        sys.exit(f"error: {mistake}")
