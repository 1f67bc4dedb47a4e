"""The two-sound figure of the FocalNet paper (arXiv 2402.02754, Figure 2) and its card."""

from typing import TYPE_CHECKING

import numpy as np

from recipes.data.audio import peak_normalize, write_wav
from recipes.report.cards import Card, Clip, build_card, build_view
from recipes.report.figures import Panel, spectrogram_figure, write_figure
from recipes.report.media import Sound
from recipes.scoring.explanation import Explanation, explain
from recipes.scoring.table import ClipTable

if TYPE_CHECKING:
    from recipes.runs.facts import Result
    from recipes.runs.run import InterpreterRun

FILES = ("first", "second", "mixture", "interpretation")


def write_mixture(run: "InterpreterRun", result: "Result") -> Card | None:
    """Draw mixture.png and .pdf, write the four sounds into media/, and return the card.

    The sounds are two clips at the same L2 norm, their sum, and what explains the prediction on the sum. None where all
    clips have one class.
    """
    subject, folder = run.subject, result.folder
    rows = _choose_pair(result.table)
    if rows is None:
        return None
    clips = [run.store.corpus.clips[result.table.index[row]] for row in rows]
    waves = []
    for row in rows:
        wave = run.store.waveform(result.table.index[row])
        waves.append(wave / max(float(np.linalg.norm(wave)), 1e-8))
    explanations = []
    for wave in (*waves, peak_normalize(waves[0] + waves[1])):
        explanations.append(explain(subject.classifier, run.interpreter, wave, subject.info.clip_seconds))
    rate, labels = run.store.sample_rate, [clip.label for clip in clips]
    write_figure(_figure(explanations, labels, rate), folder / "mixture")
    mixed = explanations[2]
    sounds = (
        Sound(labels[0], peak_normalize(waves[0]), rate),
        Sound(labels[1], peak_normalize(waves[1]), rate),
        Sound("mixture", mixed.sound, rate),
    )
    for name, waveform in zip(FILES, (*(sound.waveform for sound in sounds), mixed.relevant), strict=True):
        write_wav(folder / "media" / f"mixture_{name}.wav", waveform, rate)
    title = f"{labels[0]} ({clips[0].id}) + {labels[1]} ({clips[1].id}), at equal L2 norm"
    view = build_view("", mixed, subject.info.class_names, rate)
    return build_card(Clip(title, sounds=sounds), [view], mixed, subject.info.class_names, rate)


def _choose_pair(table: ClipTable) -> tuple[int, int] | None:
    """The rows of the two clips of different classes that the classifier is most certain of and right about.

    Where it is right about fewer than two, the most certain ones of different classes; None where all are of one class.
    """
    columns = table.columns
    by_certainty = sorted(
        range(len(table.index)),
        key=lambda row: (columns["label"][row] != columns["prediction"][row], -columns["probability"][row]),
    )
    first = by_certainty[0]
    for row in by_certainty:
        if columns["label"][row] != columns["label"][first]:
            return first, row
    return None


def _figure(explanations: list[Explanation], labels: list[str], rate: int):
    """Four panels: each sound alone, the mixture with what is kept outlined, and what is kept."""
    first, second, mixed = explanations
    seconds = len(mixed.sound) / rate
    panels = [
        Panel(labels[0], first.log_magnitude, seconds),
        Panel(labels[1], second.log_magnitude, seconds),
        Panel("mixture", mixed.log_magnitude, seconds, mixed.mask),
        Panel("interpretation", mixed.log_magnitude * mixed.mask, seconds),
    ]
    return spectrogram_figure(panels, rate)
