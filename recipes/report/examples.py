"""Explained clips for people: sounds, pictures and the report page, for a run or for one file."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from recipes.data.audio import write_wav
from recipes.data.clips import ClipDataset, collate
from recipes.report.cards import PARTS, Clip, build_card, build_view
from recipes.report.choice import choose_clips
from recipes.report.figures import encode, explanation_figure, tradeoff_figure, write_figure
from recipes.report.mixture import write_mixture
from recipes.report.page import Plot, finite, render_confusion, render_page
from recipes.report.run_page import build_page, confusion_of, row_titles
from recipes.runs.facts import Result
from recipes.runs.run import InterpreterRun
from recipes.scoring.explanation import Explanation, explain
from recipes.scoring.quality import proxies
from recipes.scoring.scores import AVERAGED
from recipes.system.files import write_atomically


def write_examples(run: InterpreterRun, result: Result) -> None:
    """media/, report.html and the plots of a run: the clips of `choose_clips` and the two-sound mixture.

    media/explanations.json tells what was said about each clip. Plots for papers are PDF and SVG.
    """
    count, folder, names = run.values["report_clips"], result.folder, run.subject.info.class_names
    choice = choose_clips(result.table, count, run.values["seed"])
    cards, answers = [], {}
    titles = row_titles(result.table, run.store.corpus)
    for row, reason in choice.reasons.items():
        card, answer = _explain_row(run, result, row, Clip(titles[row], reason=reason))
        cards.append(card)
        answers[card.title] = answer
    write_atomically(folder / "media" / "explanations.json", (json.dumps(answers, indent=1) + "\n").encode())
    plots = []
    if result.sweep and len(result.sweep) > 1:
        figure = tradeoff_figure(result.sweep, result.facts.experiment)
        write_figure(figure, folder / "tradeoff")
        plots.append(Plot("Trade-off over the quantile", "FID-I and FA against the quantile", encode(figure, "svg")))
    mixture = None
    if run.subject.offers.labels.exclusive:
        confusion = confusion_of(result.table, names)
        write_atomically(folder / "confusion.svg", render_confusion(confusion).encode())
        mixture = write_mixture(run, result) if count and result.noise.kind == "clean" else None
    page = build_page(run, result, cards, choice.rule, plots, mixture)
    write_atomically(folder / "report.html", render_page(page))


def _explain_row(run: InterpreterRun, result: Result, row: int, shown: Clip):
    """Explain the clip in a row of the table of clips: its card, and its entry in explanations.json.

    shown: the title of its card, and why it was chosen.
    """
    info, rate = run.subject.info, run.subject.info.sample_rate
    index = result.table.index[row]
    clip = run.store.corpus.clips[index]
    batch = result.noise.apply(collate([ClipDataset(run.store, [index])[0]]))
    target, name = None, clip.id
    if not run.subject.offers.labels.exclusive:
        target = int(result.table.columns["prediction"][row])
        name = f"{clip.id}_{target}"
    waveform = batch.waveform[0].numpy()
    explanation = explain(run.subject.classifier, run.interpreter, waveform, info.clip_seconds, target)
    scores = _scores_of(result.table.columns, row) | proxies(run.subject.classifier.frontend, explanation)
    _write_media(result.folder / "media", f"{name}_", explanation, rate)
    write_figure(explanation_figure(explanation, rate), result.folder / "media" / f"{name}_explanation", ("pdf",))
    view = build_view("", explanation, info.class_names, rate, scores, clip.label)
    label = result.table.class_name(run.store.corpus, "label", row)
    card = build_card(replace(shown, label=label), [view], explanation, info.class_names, rate)
    answer = {
        "label": label,
        "prediction": card.prediction,
        "verdict": view.verdict.key,
        "reason": shown.reason,
        "probabilities": view.probabilities,
        "scores": finite(scores),
    }
    return card, answer


def _scores_of(columns: Mapping[str, list[float]], row: int) -> dict[str, float]:
    """The scores of one clip by key."""
    return {key: columns[key][row] for key in ("probability", *AVERAGED) if key in columns}


def _write_media(folder: Path, prefix: str, explanation: Explanation, rate: int) -> None:
    """The input and its two parts as WAV files."""
    for name, attribute in PARTS.items():
        write_wav(folder / f"{prefix}{name}.wav", getattr(explanation, attribute), rate)
