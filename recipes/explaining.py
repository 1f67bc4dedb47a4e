"""Explaining sound files: what `interpret.py --audio` does with one file, a folder, a pattern or a list of them."""

import logging
import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from models.errors import UsageError
from recipes.data.class_names import class_index
from recipes.data.signals import sentence
from recipes.data.sounds import MonoSound, open_sound
from recipes.report.cards import View, build_view
from recipes.report.page import render_page
from recipes.report.side_by_side import ComparedClip, build_comparison
from recipes.report.sound_report import SoundFacts, SoundReport, stretches, windows_per_card
from recipes.report.sound_table import SoundTable
from recipes.runs.explainer import Explainer, question, sound_folder
from recipes.runs.ready import ReadyInterpreter, with_control
from recipes.scoring.answer import Answer
from recipes.scoring.explanation import Explanation, explain, explain_windows
from recipes.scoring.verdict import NOTABLE
from recipes.system.console import track
from recipes.system.files import name_some, write_atomically

COMPARED_SOUNDS = 20
COMPARED_SECONDS = 60.0
"""At most so many sounds, of this length each, are shown side by side by several methods."""

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
    answer, or else the folder `audio` of the first method. There several methods of one classifier also leave
    side_by_side.html, for a few short sounds.

    Raises UsageError for a target that a classifier does not know, and at the end, when all others are explained, for
    the files that could not be.
    """
    methods = []
    for explainer in explainers:
        methods.append(_Method(explainer, class_index(explainer.subject.info.class_names, request.target)))
    problems: dict[str, Path] = {}  # a file that several methods cannot read is one problem
    with ExitStack() as stack:
        for method in methods:
            stack.enter_context(method.table)
        # a single answer is printed within the loop, where a bar would swallow it
        queue = track(sources, "explain", len(sources)) if len(sources) > 1 else sources
        for source in queue:
            for method in methods:
                try:
                    _explain_file(method, source, request, quiet=len(sources) > 1)
                except UsageError as error:
                    problems[str(error).rstrip(".")] = source
    answered = [method for method in methods if method.last_folder is not None]
    if len(sources) > 1:
        for method in answered:
            print(f"explained sounds: {method.table.folder / 'index.html'}")
    if len(answered) > 1 and not problems and len(sources) <= COMPARED_SOUNDS:
        _write_side_by_side(answered, sources)
    if problems and len(sources) == 1:
        raise UsageError(f"{'; '.join(problems)}.")
    if problems:
        failed = len(set(problems.values()))
        raise UsageError(f"{failed} of {len(sources)} sounds are not explained: {name_some(list(problems))}.")
    return answered[0].last_folder if len(sources) == 1 else answered[0].table.folder


def _write_side_by_side(methods: Sequence["_Method"], sources: Sequence[Path]) -> None:
    """side_by_side.html in the first method's folder `audio`, where all methods explain one classifier."""
    first = methods[0]
    subject, info = first.explainer.subject, first.explainer.subject.info
    if any(method.explainer.subject.fingerprint != subject.fingerprint for method in methods):
        return
    clips = []
    for source in sources:
        sound = open_sound(source, info.sample_rate)
        if len(sound) > COMPARED_SECONDS * info.sample_rate:
            return
        clips.append(ComparedClip(source.name, None, np.array(sound.samples)))
    ready = [ReadyInterpreter(method.explainer.name, method.explainer.interpreter) for method in methods]
    device = str(next(subject.classifier.parameters()).device)
    page = build_comparison("side by side", subject, with_control(subject, ready, device), clips, first.target)
    path = first.table.folder / "side_by_side.html"
    write_atomically(path, render_page(page))
    print(f"side by side: {path}")


class _Method:
    """One method at work on sounds: its table, and the folder of its last answer.

    target: index of the class that is asked for, None for the predicted one.
    """

    def __init__(self, explainer: Explainer, target: int | None):
        self.explainer, self.target = explainer, target
        self.table = SoundTable(explainer.folder / "audio", f"{explainer.name}: explained sounds")
        self.last_folder: Path | None = None

    @property
    def asked(self) -> str | None:
        """The class that is asked for, by name."""
        return None if self.target is None else self.explainer.subject.info.class_names[self.target]


def _explain_file(method: _Method, source: Path, request: Request, quiet: bool) -> None:
    """Explain one file into its folder, and print the answer unless `quiet`."""
    explainer, target = method.explainer, method.target
    info, classifier = explainer.subject.info, explainer.subject.classifier
    sound = open_sound(source, info.sample_rate)
    if sound.faults:
        logger.warning("%s", sentence(source, sound.faults))
    facts = _facts(method, source, sound)
    answer = Answer(info.class_names, info.sample_rate)
    folder = sound_folder(explainer, source, method.asked)
    report = SoundReport(folder, facts, answer, classifier.frontend.hop, request.keep_masks)
    if target is None and explainer.interpreter.answers_any_class:
        report.more_views = partial(_other_classes, explainer, sound)
    windows = explain_windows(classifier, explainer.interpreter, sound, info.clip_seconds, target)
    report.write(stretches(windows, answer, info.clip_seconds))
    method.table.add(_row(source, folder, facts, answer))
    method.last_folder = folder
    if not quiet:
        _print_answer(f"{source.name} by {explainer.name}", folder, answer)


def _facts(method: _Method, source: Path, sound: MonoSound) -> SoundFacts:
    subject = method.explainer.subject
    info = subject.info
    windows = math.ceil(len(sound) / round(info.clip_seconds * info.sample_rate))
    return SoundFacts(
        title=source.name,
        question=question(method.explainer, source, method.asked),
        num_samples=len(sound),
        method=method.explainer.name,
        classifier=str(subject.bundle.path),
        num_cards=math.ceil(windows / windows_per_card(info.clip_seconds)),
        faults=tuple(fault.clause for fault in sound.faults),
    )


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
    whole = answer.mean(answer.probabilities)
    row = {
        "file": str(source),
        "folder": folder.name,
        "method": facts.method,
        "seconds": answer.seconds,
        "prediction": answer.names[answer.prediction],
        "probability": float(whole.max()),
        "target": answer.names[target],
        "target_probability": float(whole[target]),
        "relevant_probability": float(answer.mean(answer.relevant_probabilities)[target]),
        "residual_probability": float(answer.mean(answer.residual_probabilities)[target]),
    }
    row |= answer.scores()
    row["beware"] = "; ".join(facts.faults)
    for name, probability in zip(answer.names, whole, strict=True):
        row[f"p({name})"] = float(probability)
    return row


def _print_answer(title: str, folder: Path, answer: Answer) -> None:
    """The answer about a single file: its classes, what the two parts do to each, the verdict, and the page."""
    heard = ", ".join(f"{name} {share:.2f}" for name, share in answer.top(answer.mean(answer.probabilities)).items())
    print(f"{title}: {heard}")
    for shares in answer.classes():
        explained = " (explained)" if shares.name == answer.names[answer.target] else ""
        print(
            f"  {shares.name}{explained}: {shares.input:.2f}; relevant part alone {shares.relevant:.2f}, "
            f"without it {shares.residual:.2f}"
        )
    print(f"  {answer.verdict.symbol} {answer.verdict.label}: {answer.verdict.rule}")
    if not answer.one_class:
        print("  this method knows the predicted class only: each window explains its own")
    print(f"explanation: {folder / 'report.html'}")
