"""Explained clips for people: sounds, pictures and the report page, for a run or for one file."""

import json
from pathlib import Path

import numpy as np

from interpreters.base import Interpreter
from recipes.audio import load_mono, peak_normalize, write_wav
from recipes.contamination import Contamination
from recipes.esc50 import ClipDataset, ClipStore, collate
from recipes.explain import Explanation, explain
from recipes.figures import Panel, encode, explanation_figure, spectrogram_figure, tradeoff_figure
from recipes.files import write_atomically
from recipes.page import Card, Sound, render_page
from recipes.report import ClipTable, RunFacts
from recipes.subject import Subject

TOP = 3
PARTS = {"input": "sound", "relevant": "relevant", "residual": "residual"}


def explain_file(subject: Subject, interpreter: Interpreter, path: Path, run: Path) -> Path:
    """Explain one sound file of any length and rate into `<run>/audio/<name>/`, and print what was heard.

    Leaves input.wav, relevant.wav, residual.wav, explanation.png, explanation.json and report.html there.
    Raises UsageError when the file cannot be read.
    """
    rate, names = subject.info.sample_rate, subject.info.class_names
    found = explain(subject.classifier, interpreter, load_mono(path, rate), subject.info.clip_seconds)
    folder = run / "audio" / path.stem
    card = _write(folder, "", path.name, found, names, rate)
    summary = {
        "file": path.name,
        "seconds": len(found.sound) / rate,
        "top": _top(found.probabilities.mean(axis=0), names),
        "kept": float(found.saliency.mean()),
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
    write_atomically(folder / "report.html", render_page(path.name, facts, summary["top"], [], [card]))
    heard = ", ".join(f"{name} {share:.2f}" for name, share in summary["top"].items())
    print(f"{path.name}: {heard}\nexplanation: {folder}")
    return folder


def write_examples(
    folder: Path,
    subject: Subject,
    interpreter: Interpreter,
    store: ClipStore,
    noise: Contamination,
    table: ClipTable,
    count: int,
    facts: RunFacts,
    metrics: dict,
    sweep: list[dict] | None,
) -> None:
    """media/ and report.html of a run: `count` test clips evenly spaced, the sweep's plot, the two-sound mixture."""
    names, rate = store.corpus.class_names, store.sample_rate
    rows = np.linspace(0, len(table.index) - 1, min(count, len(table.index))).round().astype(int)
    cards = []
    for row in dict.fromkeys(rows.tolist()):
        index = table.index[row]
        batch = noise.apply(collate([ClipDataset(store, [index])[0]]))
        found = explain(subject.classifier, interpreter, batch.waveform[0].numpy(), subject.info.clip_seconds)
        clip = store.corpus.clips[index]
        scores = ", ".join(
            f"{name} {table.columns[name][row]:.3g}" for name in ("fid_i", "fa", "ad", "kept") if name in table.columns
        )
        cards.append(_write(folder / "media", f"{clip.id}_", clip.id, found, names, rate, clip.label, scores))
    plots = []
    if sweep and len(sweep) > 1:
        figure = tradeoff_figure(sweep, facts.experiment)
        write_atomically(folder / "tradeoff.png", encode(figure, "png"))
        plots.append(encode(figure, "svg"))
    if count and noise.kind == "clean":
        cards.insert(0, _mixture(folder, subject, interpreter, store, table))
    shown = {
        "interpreter": facts.interpreter["class"],
        "classifier": f"{subject.bundle.path} (weights: {facts.classifier['classifier']['weights']})",
        "data": f"{facts.data['name']}, test folds {facts.data['test_folds']}, {facts.data['clips']} clips",
        "contamination": facts.data["contamination"],
        "seed": facts.seed,
        "commit": facts.commit,
        "device": facts.device,
    }
    write_atomically(folder / "report.html", render_page(facts.experiment, shown, metrics, plots, cards))


def _mixture(folder: Path, subject: Subject, interpreter: Interpreter, store: ClipStore, table: ClipTable) -> Card:
    """The two-sound figure of the FocalNet paper (its Figure 2): two clips, their sum, what explains the prediction.

    The clips are the two of different predicted classes that the classifier is most certain of and right about (or
    just the first two of different classes where it is right about fewer than two). Each is scaled to the same L2
    norm.
    """
    columns = table.columns
    by_trust = sorted(range(len(table.index)), key=lambda row: (-columns["acc"][row], -columns["probability"][row]))
    first = by_trust[0]
    others = [row for row in by_trust if columns["label"][row] != columns["label"][first]]
    rows = [first, (others or by_trust)[0]]
    clips = [store.corpus.clips[table.index[row]] for row in rows]
    waves = [store.waveform(table.index[row]) for row in rows]
    waves = [wave / max(float(np.linalg.norm(wave)), 1e-8) for wave in waves]
    found = explain(subject.classifier, interpreter, peak_normalize(waves[0] + waves[1]), subject.info.clip_seconds)
    rate = store.sample_rate
    parts = [explain(subject.classifier, interpreter, wave, subject.info.clip_seconds).log_magnitude for wave in waves]
    seconds = len(found.sound) / rate
    picture = encode(
        spectrogram_figure(
            [
                Panel(clips[0].label, parts[0], seconds),
                Panel(clips[1].label, parts[1], seconds),
                Panel("mixture", found.log_magnitude, seconds, found.saliency),
                Panel("interpretation", found.log_magnitude * found.saliency, seconds),
            ],
            rate,
        ),
        "png",
    )
    write_atomically(folder / "mixture.png", picture)
    sounds = [
        Sound(clips[0].label, peak_normalize(waves[0]), rate),
        Sound(clips[1].label, peak_normalize(waves[1]), rate),
        Sound("mixture", found.sound, rate),
        Sound("interpretation", found.relevant, rate),
    ]
    for name, sound in zip(("first", "second", "mixture", "interpretation"), sounds, strict=True):
        write_wav(folder / "media" / f"mixture_{name}.wav", sound.waveform, rate)
    predicted = store.corpus.class_names[found.prediction]
    heading = f"Two sounds: {clips[0].label} + {clips[1].label}, predicted {predicted}"
    return Card(heading, f"clips {clips[0].id} and {clips[1].id} at equal L2 norm", picture, sounds)


def _write(
    folder: Path,
    prefix: str,
    title: str,
    found: Explanation,
    names: tuple[str, ...],
    rate: int,
    label: str | None = None,
    scores: str = "",
) -> Card:
    """WAVs and picture of one explanation, and its card for the page."""
    sounds = [Sound(part, getattr(found, wave), rate) for part, wave in PARTS.items()]
    for sound in sounds:
        write_wav(folder / f"{prefix}{sound.name}.wav", sound.waveform, rate)
    picture = encode(explanation_figure(found, rate), "png")
    write_atomically(folder / f"{prefix}explanation.png", picture)
    target = found.prediction
    parts = (found.probabilities, found.relevant_probabilities, found.residual_probabilities)
    shares = " → ".join(f"{part.mean(axis=0)[target]:.2f}" for part in parts)
    predicted = names[target]
    heading = f"{title}: {predicted}" if label in (None, predicted) else f"{title}: {predicted}, but it is {label}"
    facts = f"probability of {predicted}, input → relevant → residual: {shares}; kept {found.saliency.mean():.2f}. "
    return Card(heading, facts + scores, picture, sounds, wrong=label not in (None, predicted))


def _top(probabilities: np.ndarray, names: tuple[str, ...]) -> dict[str, float]:
    """The most probable classes by name."""
    order = np.argsort(-probabilities)[:TOP]
    return {names[int(k)]: float(probabilities[k]) for k in order}
