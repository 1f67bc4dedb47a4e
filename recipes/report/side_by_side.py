"""One page for several explainers of one classifier on the same clips: a row a clip, a column a method."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from models.errors import UsageError
from recipes.data.audio import load_mono
from recipes.report.cards import Card, Clip, build_card, build_view
from recipes.report.page import ClipTableView, Column, Page, Row
from recipes.runs.results import read_rows
from recipes.scoring.batch import explanation_scores
from recipes.scoring.explanation import Explanation, explain
from recipes.scoring.scores import heading, sentence

if TYPE_CHECKING:
    from recipes.runs.ready import ReadyInterpreter
    from recipes.runs.subject import Subject

INPUT_ENDING = "_input.wav"


@dataclass(frozen=True)
class ComparedClip:
    """One row: a clip's id, its true class where it is known, and its sound [N] at the classifier's rate."""

    id: str
    label: str | None
    sound: np.ndarray


def explained_clips(runs: Sequence[Path], limit: int, rate: int) -> list[ComparedClip]:
    """The clips whose input a run has left in media/: those of several runs first, at most `limit`.

    Raises UsageError where there is none, or where runs heard different sounds under one name.
    """
    paths: dict[str, list[Path]] = {}
    labels: dict[str, str] = {}
    for run in runs:
        for path in sorted((run / "media").glob(f"*{INPUT_ENDING}")):
            paths.setdefault(path.name.removesuffix(INPUT_ENDING), []).append(path)
        for row in read_rows(run / "clips.csv"):
            labels[row["id"]] = row["label"]
    if not paths:
        raise UsageError(f"{runs[0]} holds no explained clips: run interpret.py with report_clips above 0")
    clips = []
    for clip in sorted(paths, key=lambda clip: -len(paths[clip]))[:limit]:
        sound = load_mono(paths[clip][0], rate)
        for path in paths[clip][1:]:
            if not np.array_equal(sound, load_mono(path, rate)):
                raise UsageError(f"{path} is another sound than {paths[clip][0]}: give runs on the same clips")
        clips.append(ComparedClip(clip, labels.get(clip), sound))
    return clips


def build_comparison(
    title: str,
    subject: "Subject",
    methods: Sequence["ReadyInterpreter"],
    clips: Sequence[ComparedClip],
    target: int | None = None,
) -> Page:
    """The page: wrong predictions first, then the clips on which the methods differ most.

    target: index of the class to explain; None: the predicted one.
    """
    cards, rows = [], []
    for clip in clips:
        explanations = {}
        for method in methods:
            explanations[method.name] = explain(
                subject.classifier, method.interpreter, clip.sound, subject.info.clip_seconds, target
            )
        card = comparison_card(clip, explanations, subject)
        cards.append(card)
        rows.append(_row(card))
    order = sorted(range(len(cards)), key=lambda number: _difference(cards[number], rows[number]))
    names = ", ".join(method.name for method in methods)
    return Page(
        title=title,
        facts={"classifier": subject.bundle.path, "methods": names},
        cards=[cards[number] for number in order],
        summary=[f"{len(cards)} clips, {len(methods)} methods: {names}."],
        choice="Wrong predictions first, then the clips on which the methods' verdicts and scores differ most.",
        table=ClipTableView(_columns(methods), [rows[number] for number in order], [card.title for card in cards]),
        wide=True,
    )


def comparison_card(clip: ComparedClip, explanations: Mapping[str, Explanation], subject: "Subject") -> Card:
    """The card of one clip with a view for every method."""
    names, rate = subject.info.class_names, subject.info.sample_rate
    views = []
    for name, explanation in explanations.items():
        views.append(build_view(name, explanation, names, rate, explanation_scores(explanation), clip.label))
    return build_card(Clip(clip.id, clip.label), views, next(iter(explanations.values())), names, rate)


def _columns(methods: Sequence["ReadyInterpreter"]) -> list[Column]:
    columns = [
        Column("clip", "clip", "clip"),
        Column("label", "true", "text"),
        Column("prediction", "heard as", "text"),
    ]
    columns.append(Column("spread", "FA range", "number", "largest less smallest FA of the methods"))
    for method in methods:
        columns.append(Column(f"verdict {method.name}", method.name, "verdict"))
        columns.append(Column(f"fa {method.name}", heading("fa"), "number", f"{method.name}: {sentence('fa')}"))
    return columns


def _row(card: Card) -> Row:
    values: dict = {"label": card.label, "prediction": card.prediction}
    faithfulness, verdicts = [], []
    for view in card.views:
        faithfulness.append(view.scores["fa"])
        verdicts.append(view.verdict.key)
        values[f"verdict {view.name}"] = view.verdict.key
        values[f"fa {view.name}"] = view.scores["fa"]
    values["spread"] = max(faithfulness) - min(faithfulness)
    return Row(card.title, card.label or card.prediction, card.prediction, verdicts, values)


def _difference(card: Card, row: Row) -> tuple:
    """Sorts the clips to look at first to the front."""
    return not card.wrong, -len(set(row.verdicts)), -row.values["spread"]
