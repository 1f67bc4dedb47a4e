"""May a classifier or an interpreter of your own take part? What it lacks is said in sentences.

    python -m tests.conformance my_recipe.yaml --data_folder=path/to/my_data

checks the `model` of a recipe for train.py, or the `interpreter` of one for interpret.py on its classifier. In Python

>>> from tests.conformance import check_classifier, check_interpreter
>>> print(*check_classifier(MyClassifier()), sep="\\n")
>>> print(*check_interpreter(MyInterpreter, MyClassifier()), sep="\\n")
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor, nn

from interpreters.base import Interpretation, Interpreter
from models.classifier import ClassifierInfo, Evidence
from models.errors import UsageError
from models.frontend import FrontEnd, Spectrogram
from recipes.config.recipe import load_recipe
from recipes.runs.subject import load_subject
from recipes.system.entry import entry

SECONDS = (1.0, 1.37, 5.0)
TOLERANCE = 1e-3  # of the largest value, between a clip alone and the same clip in a batch


class _Stop(Exception):
    """A finding after which a check cannot go on."""


def check_classifier(classifier: nn.Module) -> list[str]:
    """What keeps `classifier` from being interpreted, in sentences; an empty list when nothing does.

    Noise of 1 s, 1.37 s and 5 s passes through it, one clip and three at a time, and a second of silence. It must
    answer with `Evidence` of the documented shapes, answer for a clip alone as in a batch, let a gradient through to
    `Spectrogram.log_magnitude`, freeze on `freeze()`, and say the truth in `describe()`. It is left frozen.
    """
    if not isinstance(classifier, nn.Module):
        return [f"It is of type {type(classifier).__name__}, not a torch.nn.Module."]
    if not isinstance(getattr(classifier, "frontend", None), FrontEnd):
        return ["It has no `frontend` that is a models.frontend.FrontEnd."]
    findings = []
    for check in (_describe, _freeze, _answers, _silence, _gradient):
        try:
            findings += check(classifier)
        except _Stop as finding:
            findings.append(str(finding))
    return list(dict.fromkeys(findings))


def check_interpreter(make: Callable[..., Interpreter], classifier: nn.Module) -> list[str]:
    """What keeps an interpreter from explaining `classifier`, in sentences; an empty list when nothing does.

    make: called with `info`, as recipes do; the class itself, or a partial of it. The classifier must conform; it is
    left frozen. Noise of 1 s and 1.37 s is explained, one clip and three at a time, and a second of silence.
    """
    classifier.freeze()
    try:
        interpreter = make(info=classifier.describe())
    except (UsageError, TypeError) as error:
        return [f"It cannot be made with `info`: {error}"]
    if not isinstance(interpreter, Interpreter):
        return [f"It is of type {type(interpreter).__name__}, not an interpreters.base.Interpreter."]
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    findings = []
    checks = (("interpret", _explains), ("interpret", _answers_targets), ("sweep", _sweeps), ("loss", _learns))
    for verb, check in checks:
        try:
            findings += check(interpreter, classifier)
        except _Stop as finding:
            findings.append(str(finding))
        except Exception as error:
            findings.append(f"Its `{verb}` raises {type(error).__name__}: {error}")
    if any(module.training for module in classifier.modules()) or any(p.requires_grad for p in classifier.parameters()):
        findings.append("It does not leave the classifier frozen and in evaluation mode.")
    if not all(torch.equal(value, before[name]) for name, value in classifier.state_dict().items()):
        findings.append("It changes the classifier's parameters or buffers.")
    return list(dict.fromkeys(findings))


def _explains(interpreter: Interpreter, classifier: nn.Module) -> Iterator[str]:
    interpreter.eval()
    for seconds in SECONDS[:2]:
        sound = _sound(classifier, 3, seconds)
        together, alone = (_interpret(interpreter, classifier, one) for one in (sound, sound[:1]))
        yield from _parts(together, sound, classifier, f"noise of {seconds} s")
        if together.mask[:1].shape != alone.mask.shape:
            yield "Its mask has another shape for one clip than for three."
        elif (together.mask[:1] - alone.mask).abs().mean() > TOLERANCE:
            yield f"Its mask of a clip of {seconds} s depends on the rest of the batch."
    silence = _sound(classifier, 1, 1.0, level=0)
    yield from _parts(_interpret(interpreter, classifier, silence), silence, classifier, "silence")


def _parts(found: Interpretation, sound: Spectrogram, classifier: nn.Module, where: str) -> Iterator[str]:
    shape = sound.log_magnitude.shape
    for name in ("relevant", "residual"):
        part = getattr(found, name)
        if not isinstance(part, Spectrogram) or part.log_magnitude.shape != shape:
            yield f"Its {name} part is not a Spectrogram of the input's shape {list(shape)} on {where}."
        elif part.num_samples != sound.num_samples:
            yield f"Its {name} part has {part.num_samples} samples and the input {sound.num_samples} on {where}."
        elif not part.log_magnitude.isfinite().all():
            yield f"Its {name} part is not finite on {where}."
    if found.mask.shape != shape:
        yield f"Its mask is {_shape(found.mask)} on {where}, not [B, T, F] = {list(shape)}."
    elif not (found.mask >= 0).all() or not (found.mask <= 1).all():
        yield f"Its mask leaves [0, 1] on {where}."
    if not torch.equal(found.target, classifier(sound).prediction):
        yield f"Its target is not the predicted class on {where}."


def _interpret(interpreter: Interpreter, classifier: nn.Module, sound: Spectrogram) -> Interpretation:
    """What recipes do in testing: no gradient unless the interpreter asks for one."""
    with torch.no_grad():
        found = interpreter.interpret(classifier, sound, classifier(sound))
    if not isinstance(found, Interpretation):
        raise _Stop(f"It returns {type(found).__name__}, not interpreters.base.Interpretation.")
    return found


@torch.no_grad()
def _answers_targets(interpreter: Interpreter, classifier: nn.Module) -> Iterator[str]:
    """What is wrong with how it treats the class it is asked about."""
    interpreter.eval()
    sound = _sound(classifier, 2, 1.0)
    evidence = classifier(sound)
    predicted, classes = evidence.prediction, evidence.logits.shape[1]
    by_default = interpreter.interpret(classifier, sound, evidence)
    of_predicted = interpreter.interpret(classifier, sound, evidence, predicted)
    if (by_default.mask - of_predicted.mask).abs().mean() > TOLERANCE:
        yield "Its mask for the predicted class differs from its mask without a target."
    if not _refuses(interpreter, classifier, sound, torch.full_like(predicted, classes)):
        yield f"It does not refuse target={classes}, which is no class, with a UsageError."
    other = (predicted + 1) % classes
    if interpreter.answers_any_class:
        settings = [interpreter.interpret(classifier, sound, evidence, other)]
        settings += interpreter.sweep(classifier, sound, evidence, other)
        if not all(torch.equal(setting.target, other) for setting in settings):
            yield "It says it answers for any class, and its target is not the class that it was asked about."
    elif not _refuses(interpreter, classifier, sound, other):
        yield "It does not say that it answers for any class, and does not refuse one that is not predicted."


def _refuses(interpreter: Interpreter, classifier: nn.Module, sound: Spectrogram, target: Tensor) -> bool:
    try:
        interpreter.interpret(classifier, sound, classifier(sound), target)
    except UsageError:
        return True
    return False


@torch.no_grad()
def _sweeps(interpreter: Interpreter, classifier: nn.Module) -> Iterator[str]:
    sound = _sound(classifier, 2, 1.0)
    count = len(list(interpreter.sweep(classifier, sound, classifier(sound))))
    if count != max(1, len(interpreter.quantiles)):
        yield f"Its sweep yields {count} interpretations for {len(interpreter.quantiles)} quantiles."
    if interpreter.quantiles and getattr(interpreter, "headline", None) not in interpreter.quantiles:
        yield "It has quantiles and no `headline` among them."


def _learns(interpreter: Interpreter, classifier: nn.Module) -> Iterator[str]:
    if not interpreter.trainable:
        return
    interpreter.train()
    sound = _sound(classifier, 2, 1.0)
    with torch.no_grad():
        evidence = classifier(sound)
    terms = interpreter.loss(classifier, sound, evidence)
    if not isinstance(terms, dict) or not terms:
        raise _Stop("Its loss is not a dictionary of named terms.")
    for name, term in terms.items():
        if term.shape != (2,):
            yield f"Its loss term {name!r} is {_shape(term)} for 2 clips, not [B]."
        elif not term.isfinite().all():
            yield f"Its loss term {name!r} is not finite."
    total = sum(term.sum() for term in terms.values())
    if not total.requires_grad:
        raise _Stop("Its loss has no gradient.")
    total.backward()
    if not any(one.grad is not None and one.grad.abs().max() > 0 for one in interpreter.parameters()):
        yield "Its loss reaches none of its parameters."
    interpreter.zero_grad()


def _describe(classifier: nn.Module) -> Iterator[str]:
    if not callable(getattr(classifier, "describe", None)):
        raise _Stop("It has no method `describe`.")
    classifier.train()
    before = [buffer.clone() for buffer in classifier.buffers()]
    info = classifier.describe()
    if not all(module.training for module in classifier.modules()):
        yield "`describe()` changes its mode."
    if not all(map(torch.equal, before, classifier.buffers())):
        yield "`describe()` changes its buffers."
    if not isinstance(info, ClassifierInfo):
        raise _Stop(f"`describe()` returns {type(info).__name__}, not models.classifier.ClassifierInfo.")
    classifier.eval()
    with torch.no_grad():
        evidence = _hear(classifier, _sound(classifier, 1, 1.0))
    features = evidence.features
    truth = {
        "num_classes": evidence.logits.shape[-1],
        "sample_rate": classifier.frontend.sample_rate,
        "n_fft": classifier.frontend.n_fft,
        "map_channels": tuple(one.shape[1] for one in features.maps if one.ndim == 4),
        "provides": {"gradient"}
        | ({"maps"} if features.maps else set())
        | ({"native_map"} if features.native_map is not None else set()),
    }
    for name, value in truth.items():
        if getattr(info, name) != value:
            yield f"`describe()` says {name} is {_plain(getattr(info, name))}, and it is {_plain(value)}."
    if not info.logit_scale > 0:
        yield f"`describe()` says logit_scale is {info.logit_scale}, and it must be positive."


def _freeze(classifier: nn.Module) -> Iterator[str]:
    classifier.train()
    if not callable(getattr(classifier, "freeze", None)):
        classifier.eval().requires_grad_(False)
        raise _Stop("It has no method `freeze`.")
    if classifier.freeze() is not classifier:
        yield "`freeze()` does not return the classifier itself."
    if any(module.training for module in classifier.modules()):
        yield "`freeze()` leaves a module in training mode."
    learning = [name for name, parameter in classifier.named_parameters() if parameter.requires_grad]
    if learning:
        yield f"`freeze()` leaves {len(learning)} parameters with a gradient, such as {learning[0]}."
    classifier.eval().requires_grad_(False)


@torch.no_grad()
def _answers(classifier: nn.Module) -> Iterator[str]:
    for seconds in SECONDS:
        sound = _sound(classifier, 3, seconds)
        try:
            together, alone = _hear(classifier, sound), _hear(classifier, sound[:1])
        except _Stop as finding:
            yield str(finding)
            continue
        wrong = [*_shapes(together, 3)] or [*_shapes(alone, 1)]
        yield from wrong
        if wrong:
            continue
        for name, first, only in zip(_names(together), _tensors(together), _tensors(alone), strict=True):
            if not first.isfinite().all():
                yield f"Its {name} are not finite on noise of {seconds} s."
            elif first[:1].shape != only.shape:
                yield f"Its {name} have another shape for one clip than for three."
            elif (first[:1] - only).abs().max() > TOLERANCE * first.abs().max():
                yield f"Its {name} of a clip of {seconds} s depend on the rest of the batch."


def _shapes(evidence: Evidence, clips: int) -> Iterator[str]:
    features = evidence.features
    if evidence.logits.ndim != 2 or len(evidence.logits) != clips:
        yield f"Its logits are {_shape(evidence.logits)} for {clips} clips, not [B, K]."
    if features.embedding.ndim != 2 or len(features.embedding) != clips:
        yield f"Its embedding is {_shape(features.embedding)} for {clips} clips, not [B, D]."
    sizes = []
    for one in features.maps:
        if one.ndim == 4 and len(one) == clips:
            sizes.append(tuple(one.shape[2:]))
        else:
            yield f"One of its maps is {_shape(one)} for {clips} clips, not [B, C, h, w]."
    if any(fine[axis] < coarse[axis] for fine, coarse in pairwise(sizes) for axis in (0, 1)):
        yield f"Its maps do not go from fine to coarse: {sizes}."
    native_map = features.native_map
    if native_map is None:
        return
    if native_map.ndim != 4 or len(native_map) != clips or native_map.shape[1] != 1:
        yield f"Its native map is {_shape(native_map)} for {clips} clips, not [B, 1, h, w]."
    elif native_map.min() < 0:
        yield "Its native map has negative values."


@torch.no_grad()
def _silence(classifier: nn.Module) -> Iterator[str]:
    evidence = _hear(classifier, _sound(classifier, 1, 1.0, level=0))
    for name, value in zip(_names(evidence), _tensors(evidence), strict=True):
        if not value.isfinite().all():
            yield f"Its {name} are not finite on silence."


def _gradient(classifier: nn.Module) -> Iterator[str]:
    sound = _sound(classifier, 2, 1.0)
    log_magnitude = sound.log_magnitude.clone()
    log_magnitude[1] = 0  # silence
    logits = _hear(classifier, replace(sound, log_magnitude=log_magnitude.requires_grad_())).logits
    try:
        (gradient,) = torch.autograd.grad(logits.amax(dim=1).sum(), log_magnitude)
    except RuntimeError:
        raise _Stop("No gradient reaches the spectrogram's log_magnitude.") from None
    if not gradient.isfinite().all():
        yield "The gradient with respect to log_magnitude is not finite."
    elif gradient[0].abs().max() == 0:
        yield "The gradient with respect to log_magnitude is zero everywhere."


def _hear(classifier: nn.Module, sound: Spectrogram) -> Evidence:
    """Evidence for a sound. Raises _Stop if there is none."""
    try:
        evidence = classifier(sound)
    except Exception as error:
        seconds = sound.num_samples / classifier.frontend.sample_rate
        where = f"{len(sound)} clips of {seconds:g} s"
        raise _Stop(f"It raises {type(error).__name__} on {where}: {error}") from error
    if not isinstance(evidence, Evidence):
        raise _Stop(f"It returns {type(evidence).__name__}, not models.classifier.Evidence.")
    return evidence


def _sound(classifier: nn.Module, clips: int, seconds: float, level: float = 0.1) -> Spectrogram:
    """Noise on the classifier's device, every clip at another level."""
    samples = round(seconds * classifier.frontend.sample_rate)
    noise = level * torch.randn(clips, samples, generator=torch.Generator().manual_seed(0))
    device = next(classifier.parameters(), noise).device
    return classifier.frontend.analyze((noise / torch.arange(1, clips + 1).unsqueeze(1)).to(device))


def _names(evidence: Evidence) -> list[str]:
    names = ["logits", "embeddings"] + [f"maps[{index}]" for index in range(len(evidence.features.maps))]
    return names + ["native maps"] * (evidence.features.native_map is not None)


def _tensors(evidence: Evidence) -> list[Tensor]:
    features = evidence.features
    found = [evidence.logits, features.embedding, *features.maps]
    return found + [features.native_map] * (features.native_map is not None)


def _shape(tensor: Tensor) -> list[int]:
    return list(tensor.shape)


def _plain(value: object) -> object:
    return sorted(value) if isinstance(value, set | frozenset) else value


def main(arguments: list[str]) -> None:
    """Entry point; see the module's docstring. Exits with 1 when something is lacking."""
    recipe = load_recipe(arguments)
    settings = recipe.build()
    if "model" in settings:
        findings = check_classifier(settings["model"]["classifier"])
    else:
        subject = load_subject(recipe.values["classifier"], "cpu", recipe.trust)
        findings = check_interpreter(settings["interpreter"]["interpreter"], subject.classifier)
    print("\n".join(findings) or "conforms")
    sys.exit(1 if findings else 0)


if __name__ == "__main__":
    entry(main)
