"""Masks of fixed areas over several folds or seeds: the mean of every method's scores and their spread.

python -m recipes.mask_folds results/masks_fold1.json results/masks_fold2.json --out=results/masks_folds.json

Each file is one that `python -m recipes.masks` wrote, of another fold or another seed, so of a classifier and of
explanations that were trained anew. Masks of 20 % of the plane under silence are summed up: for every method that all
files have, and for clean clips and mixtures, the mean over the files and their standard deviation (of a sample, n - 1).
Every file counts alike, however many clips it has.

Prints the tables, writes the numbers to --out, and with --page the tables between `<!-- mask_folds -->` and
`<!-- /mask_folds -->` of a Markdown file.
"""

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, combinations
from pathlib import Path

from models.errors import UsageError
from recipes.report.markdown import fill_page, markdown_table
from recipes.report.mask_table import AVERAGED, CONTROLS, HEADLINE_SETTING
from recipes.runs.results import column, read_json
from recipes.scoring.fixed_area import EQUAL_ENERGY
from recipes.scoring.scores import SCORES
from recipes.system.entry import entry, tool_parser
from recipes.system.files import write_atomically

READ = ("classifier", "method", "clips", "area", "removal", "folds", "seed", "n", *AVERAGED)
"""What is read of a row of masks.json."""
EMPTY_PAGE = "# Masks over folds\n\n<!-- mask_folds -->\n<!-- /mask_folds -->\n"


@dataclass(frozen=True)
class ScoredFold:
    """What one masks.json says at the headline area under silence: a row for each method and kind of clips."""

    path: Path
    rows: list[dict]

    @property
    def splits(self) -> set[tuple[int, int]]:
        """The (fold, seed) that its clips and its training are of."""
        splits = set()
        for row in self.rows:
            for fold in row["folds"]:
                splits.add((fold, row["seed"]))
        return splits

    def row(self, method: str, clips: str) -> dict | None:
        """The row of a method on one kind of clips; None where the file has none."""
        for row in self.rows:
            if (row["method"], row["clips"]) == (method, clips):
                return row
        return None


def read_fold(path: Path) -> ScoredFold:
    """Read a masks.json. Raises UsageError where the file is none, or has no row at the headline setting."""
    try:
        rows = read_json(path)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read as JSON: give files that python -m recipes.masks wrote") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) and row.keys() >= set(READ) for row in rows):
        raise UsageError(f"{path} does not hold rows of masks: give files that python -m recipes.masks wrote")
    at_headline = []
    for row in rows:
        if (row["area"], row["removal"]) == (HEADLINE_SETTING.area, HEADLINE_SETTING.removal):
            at_headline.append(row)
    if not at_headline:
        raise UsageError(f"{path} has no masks of {HEADLINE_SETTING.area:.0%} of the plane under silence")
    return ScoredFold(path, at_headline)


def check_folds(files: Sequence[ScoredFold]) -> None:
    """Raise UsageError unless there are two files or more, of one classifier, and no two share a fold and a seed."""
    if len(files) < 2:
        raise UsageError("a spread needs two files or more: name the masks.json of another fold or seed too")
    for first, second in combinations(files, 2):
        shared = sorted(first.splits & second.splits)
        if shared:
            fold, seed = shared[0]
            raise UsageError(
                f"{first.path} and {second.path} are both of fold {fold} with seed {seed}: name files that differ in "
                "fold or seed"
            )
    named = {}
    for file in files:
        for row in file.rows:
            named.setdefault(row["classifier"], file.path)
    if len(named) > 1:
        (first_name, first_path), (second_name, second_path) = list(named.items())[:2]
        raise UsageError(
            f"{first_path} explains {first_name} and {second_path} explains {second_name}: name files of one classifier"
        )


def shared_methods(files: Sequence[ScoredFold]) -> tuple[list[tuple[str, str]], list[str]]:
    """The (method, kind of clips) that all files have, in the first one's order; and the names that some file lacks.

    Raises UsageError where the files share nothing but controls.
    """
    shared, lacking = [], []
    for file in files:
        for row in file.rows:
            name = row["method"], row["clips"]
            if all(scored.row(*name) is not None for scored in files):
                if name not in shared:
                    shared.append(name)
            elif row["method"] not in lacking:
                lacking.append(row["method"])
    if all(method in CONTROLS for method, _ in shared):
        paths = ", ".join(str(file.path) for file in files)
        raise UsageError(
            f"{paths} have no method in common: score the same recipes on every fold, under the same names"
        )
    return shared, lacking


def fold_rows(files: Sequence[ScoredFold], shared: Sequence[tuple[str, str]]) -> list[dict]:
    """A row for each (method, kind of clips) that all files have.

    `folds` and `seeds` as the files name them, `files` their number, `n` their clips together (a clip counts again
    under another seed). `mean` and `spread` (sample standard deviation over the files) by score; a score that a file
    lacks, such as AP on clean clips, is in neither.
    """
    rows = []
    for method, clips in shared:
        of_files = [file.row(method, clips) for file in files]
        row = {"classifier": of_files[0]["classifier"], "method": method, "clips": clips}
        row |= {"area": HEADLINE_SETTING.area, "removal": HEADLINE_SETTING.removal}
        row |= {"folds": sorted(set(chain.from_iterable(column(of_files, "folds"))))}
        row |= {"seeds": sorted(set(column(of_files, "seed")))}
        row |= {"files": len(of_files), "n": sum(column(of_files, "n")), "mean": {}, "spread": {}}
        for score in AVERAGED:
            values = column(of_files, score)
            if None not in values:
                row["mean"][score] = round(statistics.fmean(values), 4)
                row["spread"][score] = round(statistics.stdev(values), 4)
        rows.append(row)
    return rows


def fold_tables(rows: Sequence[dict]) -> str:
    """The rows as Markdown: a table for each kind of clips, a mean with its standard deviation in every cell."""
    parts = []
    for clips in dict.fromkeys(column(rows, "clips")):
        shown = [row for row in rows if row["clips"] == clips]
        scores = [score for score in AVERAGED if score not in EQUAL_ENERGY and score in shown[0]["mean"]]
        cells = []
        for row in shown:
            numbers = [f"{row['mean'][score]:.3g} ({row['spread'][score]:.2g})" for score in scores]
            cells.append([row["method"], *numbers, str(len(row["folds"])), str(row["n"])])
        headings = [SCORES[score].heading for score in scores]
        table = markdown_table(["method", *headings, "folds", "clips"], cells)
        parts += [f"{shown[0]['classifier']}, {clips.replace('_', ', ')}: {_described(shown[0])}", table]
    return "\n\n".join(parts)


def _described(row: dict) -> str:
    folds, seeds = ", ".join(map(str, row["folds"])), ", ".join(map(str, row["seeds"]))
    return (
        f"masks of {row['area']:.0%} of the plane, silence in the rest; mean over {row['files']} files (folds {folds}; "
        f"seeds {seeds}), in brackets their standard deviation."
    )


def main(arguments: list[str]) -> None:
    """Entry point; see the module's docstring."""
    parser = tool_parser("mask_folds", __doc__)
    parser.add_argument("files", nargs="+", type=Path, help="such as results/masks_fold1.json results/masks_fold2.json")
    parser.add_argument("--out", type=Path, default=Path("results/masks_folds.json"), help="JSON file of the numbers")
    parser.add_argument("--page", type=Path, help="Markdown file to fill")
    options = parser.parse_args(arguments)
    files = [read_fold(path) for path in options.files]
    check_folds(files)
    shared, lacking = shared_methods(files)
    rows = fold_rows(files, shared)
    tables = fold_tables(rows)
    print(tables)
    if lacking:
        print(f"left out, because some file lacks them: {', '.join(lacking)}")
    write_atomically(options.out, (json.dumps(rows, indent=1) + "\n").encode())
    if options.page is not None:
        fill_page(options.page, EMPTY_PAGE, {"mask_folds": tables})
    print(f"mask folds: {options.out}")


if __name__ == "__main__":
    entry(main)
