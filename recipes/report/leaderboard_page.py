"""The leaderboard as Markdown: per group a table of scores, one of differences to controls, and one of checks."""

import re
from collections.abc import Collection, Sequence

from recipes.report.leaderboard import SIGNIFICANT
from recipes.report.markdown import markdown_table, short_number
from recipes.runs.methods import COMPARED
from recipes.scoring.scores import heading


def leaderboard_markdown(groups: Sequence[dict], pictures: str, shown: Collection[str]) -> str:
    """The groups of leaderboard.json as Markdown.

    pictures: path from the page to the folder of the SVGs. shown: names of the groups that have one.
    """
    parts = []
    for group in groups:
        parts.append(f"## {group['group']}\n\n{group['clips']} clips, accuracy {short_number(group['acc'])}.")
        parts += _tables(group)
        if group["group"] in shown:
            parts.append(f"![{group['group']}]({pictures}/{file_name(group)}.svg)")
    return "\n\n".join(parts)


def file_name(group: dict) -> str:
    """The name of a group's picture, without its ending."""
    return re.sub(r"[^\w.-]+", "_", group["group"])


def _tables(group: dict) -> list[str]:
    """The tables of one group: those of controls and checks where there are any."""
    methods = group["methods"]
    measured: set[str] = set()
    for row in methods:
        measured.update(row["scores"])
    scores = [score for score in COMPARED if score in measured]
    parts = [_score_table(group, scores)]
    compared = [row for row in methods if row.get("against", {}).get("scores")]
    if compared:
        parts.append(_control_table(compared, scores))
    checked = [row for row in methods if row["checks"]]
    if checked:
        counts = []
        for row in checked:
            for check in row["checks"].values():
                counts.append(check["n"])
        parts.append(f"Checks on {min(counts)} to {max(counts)} of the clips.")
        parts.append(_check_table(checked))
    return parts


def _score_table(group: dict, scores: Sequence[str]) -> str:
    rows = []
    for method in group["methods"]:
        cells = [method["name"]]
        for score in scores:
            cells.append(_score_cell(method, score, group["clips"]))
        cells.append(short_number(method["seconds_per_clip"]))
        rows.append(cells)
    return markdown_table(["method", *map(heading, scores), "s / clip"], rows)


def _score_cell(method: dict, score: str, clips: int) -> str:
    """Mean and interval, bold where the method leads, with the number of clips where some are left out."""
    estimate = method["scores"].get(score)
    if estimate is None:
        return ""
    text = _estimate(estimate, bold=score in method["leads"])
    return f"{text}, n {estimate['n']}" if 0 < estimate["n"] < clips else text


def _control_table(methods: Sequence[dict], scores: Sequence[str]) -> str:
    rows = []
    for method in methods:
        against = method["against"]
        cells = [method["name"], against["control"]]
        for score in scores:
            cells.append(_difference_cell(against["scores"].get(score)))
        rows.append(cells)
    return markdown_table(["method less control", "control", *map(heading, scores)], rows)


def _difference_cell(difference_and_p: Sequence[float] | None) -> str:
    """A difference with its sign, and a star where it is significant."""
    if difference_and_p is None:
        return ""
    difference, p_value = difference_and_p
    return f"{difference:+.3g}*" if p_value < SIGNIFICANT else f"{difference:+.3g}"


def _check_table(methods: Sequence[dict]) -> str:
    checks: list[str] = []
    for method in methods:
        for name in method["checks"]:
            if name not in checks:
                checks.append(name)
    rows = []
    for method in methods:
        cells = [method["name"]]
        for name in checks:
            cells.append(_estimate(method["checks"].get(name)))
        rows.append(cells)
    return markdown_table(["check", *checks], rows)


def _estimate(estimate: dict | None, bold: bool = False) -> str:
    """A mean and its interval, or nothing where it is undefined."""
    if not estimate or not estimate["n"]:
        return ""
    mean = short_number(estimate["mean"])
    if bold:
        mean = f"**{mean}**"
    return f"{mean} [{short_number(estimate['low'])}, {short_number(estimate['high'])}]"
