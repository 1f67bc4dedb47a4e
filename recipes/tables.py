"""The tables of docs/results.md, made from the metrics.json files that are kept under docs/results.

python -m recipes.tables --keep results/modulation/1234      copy a run's metrics.json into docs/results
python -m recipes.tables                                      write the tables into docs/results.md
"""

import re
from collections.abc import Sequence
from pathlib import Path

from recipes.report.markdown import fill_tables, markdown_table, short_number
from recipes.runs.results import condition, read_json, result_folders, run_name
from recipes.scoring.scores import heading
from recipes.system.entry import entry, tool_parser
from recipes.system.files import write_atomically

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "results"
PAGE = ROOT / "docs" / "results.md"
SHOWN = ("acc", "fid_i", "fa", "fa_raw_cosine", "ai", "ad", "ag", "sps", "comp", "kept")
"""Scores of the table of interpreters; the leaderboard has those against the truth, too."""
SWEPT = ("fid_i", "fa", "fa_raw_cosine", "kept")


def keep(run: Path) -> list[Path]:
    """Copy a run's metrics.json, and those of its contaminations, into docs/results; returns the copies.

    Of a cross-validation the summary is kept, not the folds. Where weights were a file on this machine, the copy holds
    the file's name without its folder. Raises UsageError when the run's folder holds no metrics.json.
    """
    copies = []
    for folder in result_folders(run):
        source = folder / "metrics.json"
        contamination = "" if folder == run else f"_{folder.name}"
        copy = RESULTS / f"{read_json(source)['experiment']}{contamination}.json"
        write_atomically(copy, re.sub(rb'("weights": ")/[^"]*/', rb"\1", source.read_bytes()))
        copies.append(copy)
    return copies


def load_results() -> list[dict]:
    """Every kept metrics.json, in the order of file names; a table of masks (`recipes.masks`) is a list, and no run."""
    results = []
    for path in sorted(RESULTS.glob("*.json")):
        content = read_json(path)
        if isinstance(content, dict):
            results.append(content)
    return results


def classifier_table(results: Sequence[dict]) -> str:
    """Classifiers: chosen on the validation fold, reported on the test fold."""
    rows = []
    for result in results:
        if result["interpreter"] is None:
            rows.append(_classifier_row(result))
    return markdown_table(["recipe", "parameters", "weights", "epochs", "valid ACC", "test ACC", "device"], rows)


def _classifier_row(result: dict) -> list[str]:
    training = result["training"]
    accuracy = short_number(result["metrics"]["acc"])
    if "spread" in result:
        accuracy += f" ± {result['spread']['acc']:.2g}, {len(result['folds']['acc'])} folds"
    weights = result["classifier"]["weights"]
    return [
        result["experiment"],
        f"{training['parameters'] / 1e6:.1f}M",
        weights if weights == "from scratch" else f"pretrained: {Path(weights).name}",
        str(training["epochs"]),
        short_number(training.get("valid_acc")),
        accuracy,
        result["device"],
    ]


def interpreter_table(results: Sequence[dict]) -> str:
    """Interpreters on the test fold, clean and contaminated, with the scores of `SHOWN` that each has."""
    rows = []
    for result in sorted(results, key=lambda result: (condition(result), result["experiment"])):
        if result["interpreter"] is None:
            continue
        row = [run_name(result), result["classifier"]["experiment"], condition(result)]
        row += [short_number(result["metrics"].get(key)) for key in SHOWN]
        quartiles = result["interpreter"].get("kept_quartiles", [])
        row.append(" / ".join(f"{value:.2f}" for value in quartiles))
        rows.append(row)
    header = ["recipe", "classifier", "clips", *map(heading, SHOWN), "kept: min / quartiles / max"]
    return markdown_table(header, rows)


def sweep_table(results: Sequence[dict]) -> str:
    """FID-I and FA at every quantile of the kept sweeps on clean clips (Figure 3 of the FocalNet paper)."""
    rows = []
    for result in results:
        if condition(result) != "clean":
            continue
        for setting in result.get("sweep", []):
            cells = [result["experiment"]]
            for key in ("quantile", *SWEPT):
                cells.append(short_number(setting[key]))
            rows.append(cells)
    return markdown_table(["recipe", "q", *map(heading, SWEPT)], rows)


def published_tables() -> str:
    """The papers' figures, each table above its source."""
    parts = []
    for paper in read_json(ROOT / "docs" / "published.json"):
        rows = []
        for row in paper["rows"]:
            cells = [row["name"]]
            for key in paper["columns"]:
                cells.append(row[key])
            rows.append(cells)
        parts.append(markdown_table(["published", *paper["columns"].values()], rows))
        parts.append(f"{paper['source']}.")
    return "\n\n".join(parts)


def fill_page(text: str, results: Sequence[dict]) -> str:
    """The page with its tables made again."""
    tables = {
        "classifiers": classifier_table(results),
        "interpreters": interpreter_table(results),
        "sweeps": sweep_table(results),
        "published": published_tables(),
    }
    return fill_tables(text, tables)


def main(arguments: list[str]) -> None:
    """Entry point; see the module's docstring."""
    parser = tool_parser("tables", __doc__)
    parser.add_argument("--keep", type=Path, nargs="+", default=[], help="runs whose metrics.json to copy first")
    for run in parser.parse_args(arguments).keep:
        print(*keep(run), sep="\n")
    write_atomically(PAGE, fill_page(PAGE.read_text(encoding="utf-8"), load_results()).encode())


if __name__ == "__main__":
    entry(main)
