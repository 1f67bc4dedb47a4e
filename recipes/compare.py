"""The leaderboard: explainers of one classifier on the same clips, with intervals, significance and cost.

python -m recipes.compare results/lmac/1234 results/control_*/1234 --out=docs/results/leaderboard \
    --page=docs/leaderboard.md --reference control_loudest control_matched

Takes the folders of runs, with their contaminations and folds, and groups them by classifier and contamination.
Intervals are percentile bootstraps over recordings, because clips that were cut from one recording are not independent.
Two methods are compared clip by clip with a permutation test. Its null hypothesis is that the differences of each
recording might as well have the other sign. P-values are corrected by Holm's method over all pairs of a group and a
score. A clip on which a score is undefined is left out of that score, and n says how many clips remain.

Writes leaderboard.json (all that the page shows), scores.csv, pairs.csv, checks.csv (the means of every check at every
noise, layer and shift) and an SVG for each group, and fills the page between `<!-- leaderboard -->` and
`<!-- /leaderboard -->`. --figures names the groups whose figures are drawn and shown, all of them
where it is left out. --reference names recipes of controls. Each method is then held against the control whose kept
share of the plane is closest to its own, provided that neither keeps 1.5 times as much as the other.
`control_matched`, which rearranges the mask values of one method, is used for that method only.
"""

import json
import os
from collections.abc import Collection, Sequence
from pathlib import Path

from models.errors import UsageError
from recipes.report.figures import encode, intervals_figure
from recipes.report.leaderboard import compare_pairs, summarize_group
from recipes.report.leaderboard_page import file_name, leaderboard_markdown
from recipes.report.markdown import fill_page
from recipes.runs.methods import Method, check_comparable, load_methods
from recipes.system.entry import entry, tool_parser
from recipes.system.files import csv_of, write_atomically

EMPTY_PAGE = "# Leaderboard\n\n<!-- leaderboard -->\n<!-- /leaderboard -->\n"


def write_leaderboard(
    runs: Sequence[Path],
    out: Path,
    page_file: Path,
    references: Collection[str] = (),
    figures: Collection[str] | None = None,
) -> list[dict]:
    """Compare the runs and write everything; returns the groups of leaderboard.json.

    figures: names of the groups whose figures are drawn and shown on the page; None for all of them.

    Raises UsageError for runs that cannot be compared, for a reference that is the recipe of none of them, and for a
    figure of a group that does not exist.
    """
    groups = _grouped(load_methods(runs))
    for methods in groups.values():
        check_comparable(methods)
    _check_references(references, groups)
    shown = list(groups) if figures is None else figures
    _check_figures(shown, groups)
    board, pair_rows, setting_rows = [], [], []
    for name, methods in groups.items():
        pairs = compare_pairs(methods)
        board.append(summarize_group(methods, pairs, references))
        for pair in pairs:
            pair_rows.append({"group": name} | pair)
        for method in methods:
            setting_rows += method.settings
    for group in board:
        if group["group"] not in shown:
            continue
        write_atomically(out / f"{file_name(group)}.svg", encode(intervals_figure(group), "svg"))
    write_atomically(out / "scores.csv", csv_of(_score_rows(board)))
    write_atomically(out / "pairs.csv", csv_of(pair_rows))
    write_atomically(out / "checks.csv", csv_of(setting_rows))
    write_atomically(out / "leaderboard.json", (json.dumps(board, indent=1) + "\n").encode())
    table = leaderboard_markdown(board, os.path.relpath(out, page_file.parent), shown)
    fill_page(page_file, EMPTY_PAGE, {"leaderboard": table})
    return board


def _grouped(methods: Sequence[Method]) -> dict[str, list[Method]]:
    """The methods by group, in the order of the groups' names."""
    groups: dict[str, list[Method]] = {}
    for method in methods:
        groups.setdefault(method.group, []).append(method)
    return dict(sorted(groups.items()))


def _check_figures(names: Collection[str], groups: Collection[str]) -> None:
    for name in names:
        if name not in groups:
            raise UsageError(f"--figures={name!r} is none of the groups; they are {'; '.join(groups)}")


def _check_references(references: Collection[str], groups: dict[str, list[Method]]) -> None:
    recipes = {method.facts["interpreter"]["recipe"] for methods in groups.values() for method in methods}
    for reference in sorted(references):
        if reference not in recipes:
            known = ", ".join(sorted(recipes))
            raise UsageError(f"--reference={reference} is the recipe of none of the runs; theirs are {known}")


def _score_rows(board: Sequence[dict]) -> list[dict]:
    """The rows of scores.csv: every mean with its interval."""
    rows = []
    for group in board:
        for method in group["methods"]:
            for score, estimate in method["scores"].items():
                rows.append({"group": group["group"], "method": method["name"], "score": score} | estimate)
    return rows


def main(arguments: list[str]) -> None:
    """Entry point; see the module's docstring."""
    parser = tool_parser("compare", __doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="folders such as results/lmac/1234")
    parser.add_argument("--out", type=Path, required=True, help="folder of the leaderboard")
    parser.add_argument("--page", type=Path, help="Markdown file to fill; leaderboard.md in the folder by default")
    parser.add_argument(
        "--reference", nargs="+", default=[], help="recipes of the controls to hold every method against"
    )
    parser.add_argument("--figures", nargs="*", help="groups whose figures are drawn and shown, such as 'cnn14, clean'")
    options = parser.parse_args(arguments)
    page_file = options.page or options.out / "leaderboard.md"
    write_leaderboard(options.runs, options.out, page_file, options.reference, options.figures)
    print(f"leaderboard: {page_file}")


if __name__ == "__main__":
    entry(main)
