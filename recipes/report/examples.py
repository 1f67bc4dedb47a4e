"""Explained clips for people: sounds, pictures and the report page, for a run or for one file."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from interpreters.base import Interpreter
from recipes.data.audio import peak_normalize, write_wav
from recipes.data.clips import ClipDataset, ClipStore, collate
from recipes.data.sounds import open_sound
from recipes.report.figures import Panel, bitmap, encode, explanation_figure, spectrogram_figure, tradeoff_figure
from recipes.report.page import Card, Confusion, Page, Rival, Sound, finite, render_confusion, render_page
from recipes.runs.facts import Result, RunFacts
from recipes.runs.run import InterpreterRun
from recipes.runs.subject import Subject
from recipes.scoring.explanation import Explanation, explain
from recipes.scoring.quality import proxies
from recipes.scoring.scores import AVERAGED
from recipes.scoring.table import ClipTable
from recipes.system.files import write_atomically

TOP = 3
PARTS = {"input": "sound", "relevant": "relevant", "residual": "residual"}


def explain_file(subject: Subject, interpreter: Interpreter, path: Path, run: Path) -> Path:
    """Explain one sound file of any length and rate into `<run>/audio/<name>/`, and print what was heard.

    Leaves input.wav, relevant.wav, residual.wav, explanation.png and .pdf, explanation.json and report.html there.
    Raises UsageError when the file cannot be read.
    """
    rate, names = subject.info.sample_rate, subject.info.class_names
    found = explain(subject.classifier, interpreter, open_sound(path, rate), subject.info.clip_seconds)
    folder = run / "audio" / path.stem
    card = _write(folder, "", path.name, found, subject, kinds=("png", "pdf"))
    summary = {
        "file": path.name,
        "seconds": len(found.sound) / rate,
        "top": _top(found.mean(found.probabilities), names),
        "kept": float(found.mask.mean()),
        "windows": [
            {
                "start_seconds": round(window * found.window_seconds, 3),
                "prediction": names[int(found.probabilities[window].argmax())],
                "input": _top(found.probabilities[window], names),
                "relevant": _top(found.relevant_probabilities[window], names),
                "residual": _top(found.residual_probabilities[window], names),
            }
            for window in range(len(found.probabilities))
        ],
    }
    write_atomically(folder / "explanation.json", (json.dumps(summary, indent=2) + "\n").encode())
    facts = {"interpreter": type(interpreter).__name__, "classifier": subject.bundle.path}
    write_atomically(folder / "report.html", render_page(Page(path.name, facts, [card])))
    heard = ", ".join(f"{name} {share:.2f}" for name, share in summary["top"].items())
    print(f"{path.name}: {heard}\nexplanation: {folder}")
    return folder


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
    return _card(title, found, subject.info.class_names, sounds)


def _draw(figure: Figure, path: Path, kinds: tuple[str, ...] = ("png", "pdf")) -> None:
    for kind in kinds:
        write_atomically(path.with_name(f"{path.name}.{kind}"), encode(figure, kind))


def _write(
    folder: Path, prefix: str, title: str, found: Explanation, subject: Subject, label=None, scores=None, kinds=("pdf",)
) -> Card:
    """WAVs and pictures of one explanation, and its card for the page."""
    rate = subject.info.sample_rate
    sounds = [Sound(part, getattr(found, wave), rate, part) for part, wave in PARTS.items()]
    for sound in sounds:
        write_wav(folder / f"{prefix}{sound.name}.wav", sound.waveform, rate)
    _draw(explanation_figure(found, rate), folder / f"{prefix}explanation", kinds)
    return _card(title, found, subject.info.class_names, sounds, label, scores)


def _card(
    title: str, found: Explanation, names: tuple[str, ...], sounds: list[Sound], label: str | None = None, scores=None
) -> Card:
    """The card of an explanation, with the classes that win on input, relevant or residual, and the true one."""
    posteriors = (found.probabilities, found.relevant_probabilities, found.residual_probabilities)
    parts = [found.mean(posterior) for posterior in posteriors]
    told = dict.fromkeys([*(int(part.argmax()) for part in parts), *([names.index(label)] if label else [])])
    rate = sounds[0].sample_rate
    return Card(
        title,
        names[found.prediction],
        label,
        {names[k]: tuple(float(part[k]) for part in parts) for k in told},
        scores or {"kept": float(found.mask.mean())},
        bitmap(found.log_magnitude, max(float(found.log_magnitude.max()), 1e-3), "magma"),
        bitmap(found.mask, 1.0, "gray"),
        len(found.sound) / rate,
        rate / 2000,
        sounds,
    )


def _top(probabilities: np.ndarray, names: tuple[str, ...]) -> dict[str, float]:
    """The most probable classes by name."""
    order = np.argsort(-probabilities)[:TOP]
    return {names[int(k)]: float(probabilities[k]) for k in order}
