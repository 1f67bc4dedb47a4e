"""Explained clips for people: sounds, pictures and the report page, for a run or for one file."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from interpreters.base import Interpreter
from recipes.data.audio import peak_normalize, write_wav
from recipes.data.clips import ClipDataset, ClipStore, collate
from recipes.report.cards import explanation_card, part_sounds
from recipes.report.figures import Panel, encode, explanation_figure, spectrogram_figure, tradeoff_figure
from recipes.report.page import Card, Confusion, Page, Rival, Sound, finite, render_confusion, render_page
from recipes.runs.facts import Result, RunFacts
from recipes.runs.run import InterpreterRun
from recipes.runs.subject import Subject
from recipes.scoring.explanation import Explanation, explain
from recipes.scoring.quality import proxies
from recipes.scoring.scores import AVERAGED
from recipes.scoring.table import ClipTable
from recipes.system.files import write_atomically


def write_examples(run: InterpreterRun, result: Result) -> None:
    """media/, report.html and the plots of a run: test clips evenly spaced (`report_clips`), the two-sound mixture.

    media/explanations.json tells what was said about each clip. Plots for papers are PDF and SVG.
    """
    folder, noise, table, sweep, facts = result.folder, result.noise, result.table, result.sweep, result.facts
    subject, interpreter, store, count = run.subject, run.interpreter, run.store, run.values["report_clips"]
    rows = np.linspace(0, len(table.index) - 1, min(count, len(table.index))).round().astype(int)
    cards, told = [], {}
    for row in dict.fromkeys(rows.tolist()):
        index = table.index[row]
        batch = noise.apply(collate([ClipDataset(store, [index])[0]]))
        found = explain(subject.classifier, interpreter, batch.waveform[0].numpy(), subject.info.clip_seconds)
        clip = store.corpus.clips[index]
        scores = {name: table.columns[name][row] for name in ("probability", *AVERAGED) if name in table.columns}
        scores |= proxies(subject.classifier.frontend, found)
        cards.append(_write(folder / "media", f"{clip.id}_", clip.id, found, subject, clip.label, scores))
        told[clip.id] = {
            "label": clip.label,
            "prediction": cards[-1].prediction,
            "probabilities": cards[-1].probabilities,
            "scores": finite(scores),
        }
    write_atomically(folder / "media" / "explanations.json", (json.dumps(told, indent=1) + "\n").encode())
    plot = None
    if sweep and len(sweep) > 1:
        figure = tradeoff_figure(sweep, facts.experiment)
        _draw(figure, folder / "tradeoff")
        plot = encode(figure, "svg")
    pairs = zip(table.columns["label"], table.columns["prediction"], strict=True)
    counts = Counter((int(label), int(prediction)) for label, prediction in pairs)
    confusion = Confusion(counts, subject.info.class_names)
    write_atomically(folder / "confusion.svg", render_confusion(confusion).encode())
    shown = {
        "interpreter": facts.interpreter["class"],
        "classifier": f"{subject.bundle.path} (weights: {facts.classifier['classifier']['weights']})",
        "data": f"{facts.data['name']}, test folds {facts.data['test_folds']}, {facts.data['clips']} clips",
        "contamination": noise.name,
        "seed": facts.seed,
        "commit": facts.commit,
        "device": facts.device,
    }
    mixture = _mixture(folder, subject, interpreter, store, table) if count and noise.kind == "clean" else None
    page = Page(facts.experiment, shown, cards, result.metrics, plot, _rivals(folder, facts), confusion, mixture)
    write_atomically(folder / "report.html", render_page(page))


def _rivals(folder: Path, facts: RunFacts) -> list[Rival]:
    """The runs beside this one, itself included, that scored the same classifier on the same clips; by FID-I."""
    experiment = next(path for path in folder.parents if path.name == facts.experiment)
    root, kind = experiment.parent, folder.relative_to(experiment).parts[1:]
    found = []
    for path in sorted(root.glob("/".join(("*/*", *kind, "metrics.json")))):
        one = json.loads(path.read_text(encoding="utf-8"))
        same = [one["data"].get(key) == facts.data[key] for key in ("content", "test_folds", "clips", "contamination")]
        if one["interpreter"] and one["classifier"]["sha256"] == facts.classifier["sha256"] and all(same):
            name = "/".join(path.parent.relative_to(root).parts)
            found.append(Rival(name, one["metrics"], path.parent == folder))
    return sorted(found, key=lambda rival: -rival.metrics["fid_i"])


def _mixture(
    folder: Path, subject: Subject, interpreter: Interpreter, store: ClipStore, table: ClipTable
) -> Card | None:
    """The two-sound figure of the FocalNet paper (its Figure 2): two clips, their sum, what explains the prediction.

    The clips are the two of different predicted classes that the classifier is most certain of and right about (or
    just the first two of different classes where it is right about fewer than two). Each is scaled to the same L2
    norm. None where all clips have one class: a clip mixed with itself shows nothing.
    """
    columns = table.columns
    by_trust = sorted(range(len(table.index)), key=lambda row: (-columns["acc"][row], -columns["probability"][row]))
    first = by_trust[0]
    second = next((row for row in by_trust if columns["label"][row] != columns["label"][first]), None)
    if second is None:
        return None
    rows = [first, second]
    clips = [store.corpus.clips[table.index[row]] for row in rows]
    waves = [store.waveform(table.index[row]) for row in rows]
    waves = [wave / max(float(np.linalg.norm(wave)), 1e-8) for wave in waves]
    found = explain(subject.classifier, interpreter, peak_normalize(waves[0] + waves[1]), subject.info.clip_seconds)
    rate = store.sample_rate
    parts = [explain(subject.classifier, interpreter, wave, subject.info.clip_seconds).log_magnitude for wave in waves]
    seconds = len(found.sound) / rate
    figure = spectrogram_figure(
        [
            Panel(clips[0].label, parts[0], seconds),
            Panel(clips[1].label, parts[1], seconds),
            Panel("mixture", found.log_magnitude, seconds, found.mask),
            Panel("interpretation", found.log_magnitude * found.mask, seconds),
        ],
        rate,
    )
    _draw(figure, folder / "mixture")
    sounds = [
        Sound(clips[0].label, peak_normalize(waves[0]), rate),
        Sound(clips[1].label, peak_normalize(waves[1]), rate),
        Sound("mixture", found.sound, rate),
        Sound("interpretation", found.relevant, rate, "relevant"),
    ]
    for name, sound in zip(("first", "second", "mixture", "interpretation"), sounds, strict=True):
        write_wav(folder / "media" / f"mixture_{name}.wav", sound.waveform, rate)
    title = f"{clips[0].label} ({clips[0].id}) + {clips[1].label} ({clips[1].id}), at equal L2 norm"
    return explanation_card(title, found, subject.info.class_names, sounds)


def _draw(figure: Figure, path: Path, kinds: tuple[str, ...] = ("png", "pdf")) -> None:
    for kind in kinds:
        write_atomically(path.with_name(f"{path.name}.{kind}"), encode(figure, kind))


def _write(
    folder: Path, prefix: str, title: str, found: Explanation, subject: Subject, label=None, scores=None, kinds=("pdf",)
) -> Card:
    """WAVs and pictures of one explanation, and its card for the page."""
    rate = subject.info.sample_rate
    sounds = part_sounds(found, rate)
    for sound in sounds:
        write_wav(folder / f"{prefix}{sound.name}.wav", sound.waveform, rate)
    _draw(explanation_figure(found, rate), folder / f"{prefix}explanation", kinds)
    return explanation_card(title, found, subject.info.class_names, sounds, label, scores)
