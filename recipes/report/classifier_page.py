"""The page of a classifier's run: learning curves, confusion, and all test clips, the most certain mistakes first."""

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from models.labels import ONE_LABEL, Labels
from recipes.data.corpus import Corpus
from recipes.report.cards import percent
from recipes.report.figures import encode, styled
from recipes.report.page import ClipTableView, Page, Plot, Row, render_page
from recipes.report.run_page import clip_table_view, confusion_of
from recipes.scoring.table import ClipTable
from recipes.system.files import write_atomically

if TYPE_CHECKING:
    from recipes.runs.facts import RunFacts

LOG_ENTRY = re.compile(r"(?P<name>(?:train|valid) \w+): (?P<value>[-+.\w]+)")
EPOCH = re.compile(r"epoch: (\d+)")


def write_classifier_page(
    folder: Path, facts: "RunFacts", table: ClipTable, corpus: Corpus, labels: Labels = ONE_LABEL
) -> None:
    """report.html of a classifier's run, from its scores on the test clips and its train_log.txt."""
    view = clip_table_view(table, corpus, shown=[])
    view = replace(view, rows=sorted(view.rows, key=_mistakes_first))
    count = len(set(table.index))
    curves = read_curves(folder / "train_log.txt")
    plots = []
    if curves:
        plots.append(Plot("Learning curves", "loss and accuracy over the epochs", encode(_draw_curves(curves), "svg")))
    page = Page(
        title=f"{facts.experiment}: a classifier",
        facts={
            "data": f"{facts.data['name']}, test folds {facts.data['test_folds']}, {count} clips",
            "seed": facts.seed,
            "commit": facts.commit,
            "device": facts.device,
        },
        cards=[],
        summary=[_summary(view, count, labels)],
        table=view,
        plots=plots,
        confusion=confusion_of(table, corpus.class_names) if labels.exclusive else None,
    )
    write_atomically(folder / "report.html", render_page(page))


def _summary(view: ClipTableView, count: int, labels: Labels) -> str:
    """How often the classifier is right. count: of the clips, which may have several rows."""
    wrong = sum(row.label != row.prediction for row in view.rows)
    if labels.exclusive:
        return f"{count} test clips: {percent((count - wrong) / count)} classified correctly, {wrong} wrong."
    right = len(view.rows) - wrong
    missed = sum(not row.prediction for row in view.rows)
    labels_in_words = f"{right + missed} labels: {right} heard, {missed} missed"
    return f"{count} test clips with {labels_in_words}; {wrong - missed} classes are heard that their clip has not."


def _mistakes_first(row: Row) -> tuple[bool, float]:
    """Sorts wrong predictions to the front, and the most certain ones first."""
    return row.label == row.prediction, -row.values["probability"]


def read_curves(log: Path) -> dict[str, list[tuple[int, float]]]:
    """For each quantity of a training log, such as "valid loss", its value at every epoch; empty without a log."""
    curves: dict[str, list[tuple[int, float]]] = {}
    if not log.is_file():
        return curves
    for line in log.read_text(encoding="utf-8").splitlines():
        epoch = EPOCH.match(line)
        if epoch is None:
            continue
        for entry in LOG_ENTRY.finditer(line):
            curves.setdefault(entry["name"], []).append((int(epoch[1]), float(entry["value"])))
    return curves


@styled
def _draw_curves(curves: dict[str, list[tuple[int, float]]]) -> Figure:
    """Losses in one panel, everything else in another."""
    figure = Figure(figsize=(7, 2.6), layout="constrained")
    panels = figure.subplots(1, 2)
    for name, points in curves.items():
        axes = panels[0] if name.endswith("loss") else panels[1]
        epochs, values = zip(*points, strict=True)
        axes.plot(epochs, values, label=name)
    for axes in panels:
        axes.set(xlabel="epoch")
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
    return figure
