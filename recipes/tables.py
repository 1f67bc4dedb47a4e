"""The tables of docs/results.md, made from the metrics.json files that are kept under docs/results.

python -m recipes.tables --keep results/modulation/1234      copy a run's metrics.json into docs/results
python -m recipes.tables                                      write the tables into docs/results.md
python -m recipes.tables --paper                              print the papers' tables, with our runs below each row
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path

from recipes.report.markdown import fill_tables, markdown_table, short_number
from recipes.report.paper_table import PaperRun, paper_tables
from recipes.runs.departures import departures, paper_recipe
from recipes.runs.places import PUBLISHED
from recipes.runs.results import condition, own_results, read_json, result_folders, run_name
from recipes.scoring.scores import heading
from recipes.system.entry import entry, tool_parser
from recipes.system.files import write_atomically

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "results"
PAGE = ROOT / "docs" / "results.md"
PAPERS = ROOT / "docs" / "published.json"
SHOWN = ("acc", "fid_i", "fa", "fa_raw_cosine", "ai", "ad", "ag", "sps", "comp", "kept")
"""Scores of the table of interpreters; the leaderboard has those against the truth, too."""
SWEPT = ("fid_i", "fa", "fa_raw_cosine", "kept")


def keep(run: Path) -> list[Path]:
    """Copy a run's metrics.json, and those of its contaminations, into docs/results; returns the copies.

    Of a cross-validation the summary is kept, not the folds. Where weights were a file on this machine, the copy holds
    the file's name without its folder. That of a published set-up also holds how the run departs from it. Raises
    UsageError when the run's folder holds no metrics.json.
    """
    copies = []
    for folder in result_folders(run):
        text = re.sub(r'("weights": ")/[^"]*/', r"\1", (folder / "metrics.json").read_text(encoding="utf-8"))
        result = json.loads(text)
        recipe = paper_recipe(result["experiment"])
        if recipe is not None:
            result["departures"] = departures(run, recipe)
            text = json.dumps(result, indent=2) + "\n"
        contamination = "" if folder == run else f"_{folder.name}"
        copy = RESULTS / f"{result['experiment']}{contamination}.json"
        write_atomically(copy, text.encode())
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
                cells.append(short_number(setting.get(key)))
            rows.append(cells)
    return markdown_table(["recipe", "q", *map(heading, SWEPT)], rows)


def kept_paper_runs(results: Sequence[dict]) -> dict[str, list[PaperRun]]:
    """The kept runs of published set-ups, by the name of their recipe in hparams/paper."""
    runs: dict[str, list[PaperRun]] = {}
    for result in results:
        recipe = paper_recipe(result["experiment"])
        if recipe is not None:
            runs.setdefault(recipe.stem, []).append(PaperRun(result, result["departures"]))
    return runs


def local_paper_runs(output_folder: Path) -> dict[str, list[PaperRun]]:
    """The runs of published set-ups below a folder of runs, by the name of their recipe in hparams/paper."""
    runs: dict[str, list[PaperRun]] = {}
    for run in sorted(output_folder.glob(f"{PUBLISHED}*/*/")):
        recipe = paper_recipe(run.parent.name)
        folders = own_results(run)
        if recipe is None or not folders:
            continue
        differing = departures(run, recipe)
        for folder in folders:
            runs.setdefault(recipe.stem, []).append(PaperRun(read_json(folder / "metrics.json"), differing))
    return runs


def published_beside_ours(runs: dict[str, list[PaperRun]]) -> str:
    """The papers' tables, with runs below the rows that they belong to."""
    return paper_tables(read_json(PAPERS), runs)


def fill_page(text: str, results: Sequence[dict]) -> str:
    """The page with its tables made again."""
    tables = {
        "classifiers": classifier_table(results),
        "interpreters": interpreter_table(results),
        "sweeps": sweep_table(results),
        "published": published_beside_ours(kept_paper_runs(results)),
    }
    return fill_tables(text, tables)


def main(arguments: list[str]) -> None:
    """Entry point; see the module's docstring."""
    parser = tool_parser("tables", __doc__)
    parser.add_argument("--keep", type=Path, nargs="+", default=[], help="runs whose metrics.json to copy first")
    parser.add_argument("--paper", action="store_true", help="print the papers' tables and write nothing")
    parser.add_argument(
        "--runs",
        type=Path,
        default=Path("results"),
        help="with --paper: the folder of runs; without any, the kept ones",
    )
    options = parser.parse_args(arguments)
    for run in options.keep:
        print(*keep(run), sep="\n")
    if options.paper:
        kept = kept_paper_runs(load_results())
        print(published_beside_ours(kept | local_paper_runs(options.runs)))
        return
    write_atomically(PAGE, fill_page(PAGE.read_text(encoding="utf-8"), load_results()).encode())


if __name__ == "__main__":
    entry(main)
