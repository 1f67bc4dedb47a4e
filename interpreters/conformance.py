"""May an interpreter of one's own take part? What it lacks is said in sentences.

>>> from interpreters.conformance import check_interpreter
>>> print(*check_interpreter(MyInterpreter, my_classifier), sep="\\n")

`python -m recipes.conformance my_recipe.yaml` does it from a command line; docs/plugins.md lists what is checked.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from interpreters.base import Interpretation, Interpreter
from models.classifier import AudioClassifier
from models.conformance import TOLERANCE, Stop, noise
from models.errors import UsageError
from models.frontend import Spectrogram

SECONDS = (1.0, 1.37)


def check_interpreter(make: Callable[..., Interpreter], classifier: AudioClassifier) -> list[str]:
    """What keeps an interpreter from explaining `classifier`, in sentences; an empty list when nothing does.

    make: called with `info`, as recipes do; the class itself, or a partial of it. classifier: any that conforms
    (`models.conformance`); it is left frozen. Noise of 1 s and 1.37 s is explained, one clip and three at a time, and a
    second of silence.
    """
    classifier.freeze()
    try:
        interpreter = make(info=classifier.describe())
    except (UsageError, TypeError) as error:
        return [f"It cannot be made with `info`: {error}"]
    if not isinstance(interpreter, Interpreter):
        return [f"It is of type {type(interpreter).__name__}, not an interpreters.base.Interpreter."]
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    findings: list[str] = []
    checks = (
        ("interpret", _explains),
        ("interpret", _repeats),
        ("interpret", _answers_targets),
        ("sweep", _sweeps),
        ("loss", _learns),
    )
    for verb, check in checks:
        try:
            findings += check(interpreter, classifier)
        except Stop as finding:
            findings.append(str(finding))
        except Exception as error:
            findings.append(f"Its `{verb}` raises {type(error).__name__}: {error}")
    in_training = any(module.training for module in classifier.modules())
    if in_training or any(parameter.requires_grad for parameter in classifier.parameters()):
        findings.append("It does not leave the classifier frozen and in evaluation mode.")
    if not all(torch.equal(value, before[name]) for name, value in classifier.state_dict().items()):
        findings.append("It changes the classifier's parameters or buffers.")
    return list(dict.fromkeys(findings))


def _explains(interpreter: Interpreter, classifier: AudioClassifier) -> Iterator[str]:
    """What is wrong with its interpretations of clips of several lengths, alone and in a batch, and of silence."""
    interpreter.eval()
    for seconds in SECONDS:
        sound = noise(classifier, 3, seconds)
        together, alone = (_interpret(interpreter, classifier, clips) for clips in (sound, sound[:1]))
        where = f"noise of {seconds} s"
        yield from _parts(together, sound, where)
        if not torch.equal(together.target, classifier(sound).prediction):
            yield f"Its target is not the predicted class on {where}."
        if together.mask[:1].shape != alone.mask.shape:
            yield "Its mask has another shape for one clip than for three."
        elif (together.mask[:1] - alone.mask).abs().mean() > TOLERANCE:
            yield f"Its mask of a clip of {seconds} s depends on the rest of the batch."
    silence = noise(classifier, 1, 1.0, level=0)
    yield from _parts(_interpret(interpreter, classifier, silence), silence, "silence")


def _parts(interpretation: Interpretation, sound: Spectrogram, where: str) -> Iterator[str]:
    shape = sound.log_magnitude.shape
    for name in ("relevant", "residual"):
        part = getattr(interpretation, name)
        if not isinstance(part, Spectrogram) or part.log_magnitude.shape != shape:
            yield f"Its {name} part is not a Spectrogram of the input's shape {list(shape)} on {where}."
        elif part.num_samples != sound.num_samples:
            yield f"Its {name} part has {part.num_samples} samples and the input {sound.num_samples} on {where}."
        elif not part.log_magnitude.isfinite().all():
            yield f"Its {name} part is not finite on {where}."
    mask, importance = interpretation.mask, interpretation.importance
    if mask.shape != shape:
        yield f"Its mask is {list(mask.shape)} on {where}, not [B, T, F] = {list(shape)}."
    elif not (mask >= 0).all() or not (mask <= 1).all():
        yield f"Its mask leaves [0, 1] on {where}."
    if importance.shape != shape:
        yield f"Its importance is {list(importance.shape)} on {where}, not [B, T, F] = {list(shape)}."
    elif not importance.isfinite().all():
        yield f"Its importance is not finite on {where}."


def _interpret(interpreter: Interpreter, classifier: AudioClassifier, sound: Spectrogram) -> Interpretation:
    """What recipes do in testing: no gradient unless the interpreter asks for one."""
    with torch.no_grad():
        interpretation = interpreter.interpret(classifier, sound, classifier(sound))
    if not isinstance(interpretation, Interpretation):
        raise Stop(f"It returns {type(interpretation).__name__}, not interpreters.base.Interpretation.")
    return interpretation


def _repeats(interpreter: Interpreter, classifier: AudioClassifier) -> Iterator[str]:
    """Whether the same clip has the same mask again: random draws follow from the clip and a seed."""
    interpreter.eval()
    sound = noise(classifier, 1, 1.0)
    first, second = (_interpret(interpreter, classifier, sound) for _ in range(2))
    if (first.mask - second.mask).abs().mean() > TOLERANCE:
        yield "Its mask for the same clip differs from one call to the next."


@torch.no_grad()
def _answers_targets(interpreter: Interpreter, classifier: AudioClassifier) -> Iterator[str]:
    """What is wrong with how it treats the class it is asked about."""
    interpreter.eval()
    sound = noise(classifier, 2, 1.0)
    evidence = classifier(sound)
    predicted, classes = evidence.prediction, evidence.logits.shape[1]
    by_default = interpreter.interpret(classifier, sound, evidence)
    of_predicted = interpreter.interpret(classifier, sound, evidence, predicted)
    if (by_default.mask - of_predicted.mask).abs().mean() > TOLERANCE:
        yield "Its mask for the predicted class differs from its mask without a target."
    if not _refuses(interpreter, classifier, sound, torch.full_like(predicted, classes)):
        yield f"It does not refuse target={classes}, which is no class, with a UsageError."
    next_class = (predicted + 1) % classes
    if interpreter.answers_any_class:
        settings = [interpreter.interpret(classifier, sound, evidence, next_class)]
        settings += interpreter.sweep(classifier, sound, evidence, next_class)
        if not all(torch.equal(setting.target, next_class) for setting in settings):
            yield "It says it answers for any class, and its target is not the class that it was asked about."
    elif not _refuses(interpreter, classifier, sound, next_class):
        yield "It does not say that it answers for any class, and does not refuse one that is not predicted."


def _refuses(interpreter: Interpreter, classifier: AudioClassifier, sound: Spectrogram, target: Tensor) -> bool:
    try:
        interpreter.interpret(classifier, sound, classifier(sound), target)
    except UsageError:
        return True
    return False


@torch.no_grad()
def _sweeps(interpreter: Interpreter, classifier: AudioClassifier) -> Iterator[str]:
    sound = noise(classifier, 2, 1.0)
    settings = list(interpreter.sweep(classifier, sound, classifier(sound)))
    if len(settings) != max(1, len(interpreter.quantiles)):
        yield f"Its sweep yields {len(settings)} interpretations for {len(interpreter.quantiles)} quantiles."
    for setting in settings:
        yield from _parts(setting, sound, "a sweep")
    if interpreter.quantiles and getattr(interpreter, "headline", None) not in interpreter.quantiles:
        yield "It has quantiles and no `headline` among them."


def _learns(interpreter: Interpreter, classifier: AudioClassifier) -> Iterator[str]:
    """What is wrong with the loss of one that is trained."""
    if not interpreter.trainable:
        return
    interpreter.train()
    sound = noise(classifier, 2, 1.0)
    with torch.no_grad():
        evidence = classifier(sound)
    terms = interpreter.loss(classifier, sound, evidence)
    if not isinstance(terms, dict) or not terms:
        raise Stop("Its loss is not a dictionary of named terms.")
    for name, term in terms.items():
        if term.shape != (2,):
            yield f"Its loss term {name!r} is {list(term.shape)} for 2 clips, not [B]."
        elif not term.isfinite().all():
            yield f"Its loss term {name!r} is not finite."
    total = torch.stack([term.sum() for term in terms.values()]).sum()
    if not total.requires_grad:
        raise Stop("Its loss has no gradient.")
    total.backward()
    slopes = [parameter.grad for parameter in interpreter.parameters() if parameter.grad is not None]
    if not any(slope.abs().max() > 0 for slope in slopes):
        yield "Its loss reaches none of its parameters."
    interpreter.zero_grad()
