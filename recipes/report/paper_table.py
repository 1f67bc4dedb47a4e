"""The papers' tables, with what our runs of the same set-ups scored below each published row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from recipes.report.markdown import markdown_table, short_number
from recipes.runs.results import condition

MAX_TOLD = 3
"""Departures of a run that its line tells one by one."""


@dataclass(frozen=True)
class PaperRun:
    """A run of a published set-up. result: its metrics.json. departures: what differs from the set-up, in phrases."""

    result: dict
    departures: Sequence[str]


def paper_tables(papers: Sequence[Mapping], runs: Mapping[str, Sequence[PaperRun]]) -> str:
    """Every table of docs/published.json, each above its source.

    runs: by the name of a row's recipe in hparams/paper, without its suffix. Of these a row shows those on clips of the
    table's condition. A row that has none is left empty.
    """
    parts = []
    for paper in papers:
        rows = []
        for row in paper["rows"]:
            columns = tuple(paper["columns"])
            rows.append([row["name"], "published", *(row.get(key, "") for key in columns), ""])
            ours = [run for run in runs.get(row["recipe"], ()) if condition(run.result) == paper["contamination"]]
            rows += [_line(row["recipe"], run, columns) for run in ours]
            if not ours:
                rows.append([f"`{row['recipe']}`", "ours", *[""] * len(columns), ""])
        parts.append(markdown_table(["row", "", *paper["columns"].values(), "ours: data, and what differs"], rows))
        parts.append(f"{paper['source']}.")
    return "\n\n".join(parts)


def _line(recipe: str, run: PaperRun, columns: Sequence[str]) -> list[str]:
    result = run.result
    cells = [f"`{recipe}`", f"ours, seed {result['seed']}"]
    for key in columns:
        cells.append(parameters(result) if key == "parameters" else short_number(result["metrics"].get(key)))
    return [*cells, _about(run)]


def parameters(result: dict) -> str:
    """The parameters of a classifier, and of what explains it where something does: "87.3M", "87.3M + 71.4M"."""
    if result["interpreter"] is None:
        return _millions(result["training"]["parameters"])
    classifier = _millions(result["classifier"]["training"].get("parameters"))
    explainer = result["interpreter"]["parameters"]
    return f"{classifier} + {_millions(explainer)}" if explainer else classifier


def _millions(count: int | None) -> str:
    """ "87.3M"; "?" for a classifier that was adopted, whose bundle does not say."""
    return "?" if count is None else f"{count / 1e6:.1f}M"


def _about(run: PaperRun) -> str:
    """The data that a run was scored on, its weights, and how it departs from the set-up."""
    result, shown = run.result, list(run.departures[:MAX_TOLD])
    data = f"{result['data']['name']}, {result['data']['clips']} clips"
    more = len(run.departures) - len(shown)
    if more > 0:
        shown.append(f"{more} more")
    return f"{data}; {'; '.join(shown)}" if shown else f"{data}; as published"
