"""Explaining sound files: what `interpret.py --audio` does with one file, a folder, a pattern or a list of them."""

import csv
import io
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from models.errors import UsageError
from recipes.data.signals import sentence
from recipes.data.sounds import MonoSound, open_sound
from recipes.report.cards import View, build_view
from recipes.report.page import render
from recipes.report.sound_report import SoundFacts, SoundReport, stretches, windows_per_card
from recipes.runs.explainer import Explainer, question, sound_folder
from recipes.scoring.answer import NOTABLE, Answer, class_index
from recipes.scoring.explanation import Explanation, explain, explain_windows
from recipes.system.files import name_some, write_atomically

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """What is asked about sounds: target is a class by name or index, None for the predicted one of each sound.

    keep_masks: leave masks.npz beside every explanation.
    """

    target: str | int | None = None
    keep_masks: bool = False


def explain_sounds(explainers: Sequence[Explainer], sources: Sequence[Path], request: Request) -> Path:
    """Explain sound files with one or more methods, one file after another.

    Each method writes below its run's folder: `audio/<name>/` for a file, and `audio/index.html` and `audio/sounds.csv`
    with a row a file. A file that cannot be explained is named and skipped. Returns the folder of a single file's
    answer, or else the folder `audio` of the first method.

    Raises UsageError for a target that a classifier does not know, and at the end, when all others are explained, for
    the files that could not be.
    """
    targets = [class_index(explainer.subject.info.class_names, request.target) for explainer in explainers]
    rows: list[list[dict]] = [[] for _ in explainers]
    problems: dict[str, Path] = {}  # a file that several methods cannot read is one problem
    for source in tqdm(sources, "explain", unit="file", disable=len(sources) < 2):
        for number, explainer in enumerate(explainers):
            try:
                folder, answer, row = _explain_file(explainer, source, targets[number], request.keep_masks)
            except UsageError as error:
                problems[str(error).rstrip(".")] = source
                continue
            rows[number].append(row)
            if len(sources) == 1:
                _print_answer(f"{source.name} by {explainer.name}", folder, answer)
    written = [explainer.folder / "audio" for explainer, answers in zip(explainers, rows, strict=True) if answers]
    for number, explainer in enumerate(explainers):
        if rows[number]:
            _write_index(explainer, rows[number])
    if len(sources) > 1:
        print("\n".join(f"explained sounds: {folder / 'index.html'}" for folder in written))
    if problems and len(sources) == 1:
        raise UsageError(f"{'; '.join(problems)}.")
    if problems:
        failed = len(set(problems.values()))
        raise UsageError(f"{failed} of {len(sources)} sounds are not explained: {name_some(list(problems))}.")
    return written[0] / rows[0][0]["folder"] if len(sources) == 1 else written[0]


def _explain_file(
    explainer: Explainer, source: Path, target: int | None, keep_masks: bool
) -> tuple[Path, Answer, dict]:
    """Explain one file into its folder; returns that folder, the answer, and its row of the table."""
    subject = explainer.subject
    info, classifier = subject.info, subject.classifier
    sound = open_sound(source, info.sample_rate)
    if sound.faults:
        logger.warning("%s", sentence(source, sound.faults))
    asked = None if target is None else info.class_names[target]
    windows = math.ceil(len(sound) / round(info.clip_seconds * info.sample_rate))
    facts = SoundFacts(
        title=source.name,
        question=question(explainer, source, asked),
        num_samples=len(sound),
        method=explainer.name,
        classifier=str(subject.bundle.path),
        num_cards=math.ceil(windows / windows_per_card(info.clip_seconds)),
        faults=tuple(fault.clause for fault in sound.faults),
    )
    answer = Answer(info.class_names, info.sample_rate)
    folder = sound_folder(explainer, source, asked)
    explained = explain_windows(classifier, explainer.interpreter, sound, info.clip_seconds, target)
    report = SoundReport(folder, facts, answer, classifier.frontend.hop, keep_masks)
    if target is None and explainer.interpreter.answers_any_class:
        report.more_views = partial(_other_classes, explainer, sound)
    report.write(stretches(explained, answer, info.clip_seconds))
    return folder, answer, _row(source, folder, facts, answer)


def _other_classes(explainer: Explainer, sound: MonoSound, explanation: Explanation) -> list[View]:
    """Views of the other notable classes of a sound, the most probable first."""
    subject, info = explainer.subject, explainer.subject.info
    probabilities = explanation.mean(explanation.probabilities)
    views = []
    for index in np.argsort(-probabilities, kind="stable").tolist():
        if index == explanation.target or probabilities[index] < NOTABLE:
            continue
        answer = explain(subject.classifier, explainer.interpreter, sound, info.clip_seconds, index)
        views.append(build_view(info.class_names[index], answer, info.class_names, info.sample_rate))
    return views


def _row(source: Path, folder: Path, facts: SoundFacts, answer: Answer) -> dict:
    """What the table and the index say of one sound."""
    target = answer.target
    whole, relevant, residual = (
        answer.mean(posteriors)
        for posteriors in (answer.probabilities, answer.relevant_probabilities, answer.residual_probabilities)
    )
    row = {
        "file": str(source),
        "folder": folder.name,
        "method": facts.method,
        "seconds": answer.seconds,
        "prediction": answer.names[answer.prediction],
        "probability": float(whole.max()),
        "target": answer.names[target],
        "target_probability": float(whole[target]),
        "relevant_probability": float(relevant[target]),
        "residual_probability": float(residual[target]),
    }
    row |= answer.scores()
    row["beware"] = "; ".join(facts.faults)
    for name, probability in zip(answer.names, whole, strict=True):
        row[f"p({name})"] = float(probability)
    return row


def _print_answer(title: str, folder: Path, answer: Answer) -> None:
    """The answer about a single file: its classes, what the two parts do to each, and the page."""
    heard = ", ".join(f"{name} {share:.2f}" for name, share in answer.top(answer.mean(answer.probabilities)).items())
    print(f"{title}: {heard}")
    for shares in answer.classes():
        explained = " (explained)" if shares.name == answer.names[answer.target] else ""
        print(
            f"  {shares.name}{explained}: {shares.input:.2f}; relevant part alone {shares.relevant:.2f}, "
            f"without it {shares.residual:.2f}"
        )
    if not answer.one_class:
        print("  this method knows the predicted class only: each window explains its own")
    print(f"explanation: {folder / 'report.html'}")


def _write_index(explainer: Explainer, rows: Sequence[dict]) -> None:
    """sounds.csv and index.html in the folder `audio` of a run: these rows, and those of answers given earlier."""
    audio = explainer.folder / "audio"
    table = {row["folder"]: row for row in _read_rows(audio / "sounds.csv")}
    for row in rows:
        table[row["folder"]] = {
            key: f"{value:.6g}" if isinstance(value, float) else value for key, value in row.items()
        }
    columns = list(dict.fromkeys(key for row in table.values() for key in row))
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(table.values())
    write_atomically(audio / "sounds.csv", stream.getvalue().encode())
    page = render("sounds.html", title=f"{explainer.name}: explained sounds", rows=list(table.values()))
    write_atomically(audio / "index.html", page.encode())


def _read_rows(path: Path) -> list[dict]:
    """The rows of an earlier table whose answers are still there."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return []
    rows = csv.DictReader(io.StringIO(text, newline=""))
    return [row for row in rows if (path.parent / str(row.get("folder")) / "explanation.json").is_file()]
