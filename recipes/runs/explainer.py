"""A method on a classifier, ready to be asked about sounds, and where its answers go."""

import hashlib
import json
import logging
from dataclasses import dataclass, replace
from pathlib import Path

from interpreters.base import Interpreter
from models.bundle import read_facts, save_bundle
from recipes.config.meaning import meaning_of_bundle
from recipes.runs.changes import phrases, recipe_changes
from recipes.runs.places import is_bundle
from recipes.runs.subject import Subject, keep_classifier

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Explainer:
    """A classifier and an interpreter of it.

    name: of the method, as its recipe is called. folder: of its run, below which answers about sounds are written.
    document: the interpreter's settings, as its bundle keeps them.
    """

    name: str
    subject: Subject
    interpreter: Interpreter
    folder: Path
    document: str

    @property
    def identity(self) -> str:
        """Hex digest of what an answer depends on besides the sound: the classifier's weights and the settings."""
        parts = [self.subject.info.sha256, self.document]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def keep_bundles(explainer: Explainer) -> None:
    """Leave the bundles `interpreter/` and `classifier/` in the run's folder, unless an interpreter is there."""
    folder, subject = explainer.folder, explainer.subject
    if is_bundle(folder / "interpreter"):
        kept = read_facts(folder / "interpreter", "interpreter").source.get("classifier_weights_sha256")
        if kept != subject.fingerprint:
            logger.warning("%s keeps a method of another classifier: Python loads that one from there", folder)
        elif not explainer.interpreter.trainable:
            _tell_other_settings(explainer)
        return
    source = subject.info.source | {"classifier_weights_sha256": subject.fingerprint, "training": {}}
    info = replace(subject.info, kind="interpreter", source=source, sha256={})
    folder.mkdir(parents=True, exist_ok=True)
    keep_classifier(folder, subject)
    save_bundle(folder / "interpreter", explainer.interpreter, explainer.document, info)  # last: it says that both are


def _tell_other_settings(explainer: Explainer) -> None:
    """Warn where a method is asked with other settings than the run in its folder had, as its report shows them."""
    text = (explainer.folder / "interpreter" / "model.yaml").read_text(encoding="utf-8")
    kept, asked = (meaning_of_bundle(document, "interpreter") for document in (text, explainer.document))
    changes = phrases(recipe_changes(kept, asked))
    if changes:
        logger.warning(
            "%s keeps this method with other settings (%s): Python loads those from there",
            explainer.folder,
            "; ".join(changes),
        )


def question(explainer: Explainer, source: Path, asked: str | None) -> dict:
    """What an answer is about, as its explanation.json keeps it. asked: the class by name, None for the predicted."""
    return {"source": str(source.resolve()), "asked": asked, "identity": explainer.identity}


def sound_folder(explainer: Explainer, source: Path, asked: str | None) -> Path:
    """Where the answer about a file goes: `<run>/audio/<name>`, with the asked class in the name where one is asked.

    Where that folder holds the answer to another question (a file of the same name, other settings), a digest is added
    to the name: nothing is overwritten but an earlier answer to the same question.
    """
    name = source.stem if asked is None else f"{source.stem}_{asked}".replace("/", "_")
    about = question(explainer, source, asked)
    folder = explainer.folder / "audio" / name
    answer = folder / "explanation.json"
    if not answer.exists() or _read_question(answer) == about:
        return folder
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:8]
    return folder.with_name(f"{name}-{digest}")


def _read_question(answer: Path) -> dict | None:
    try:
        return json.loads(answer.read_text(encoding="utf-8")).get("question")
    except (OSError, ValueError):
        return None
