"""May a classifier of one's own take part? What it lacks is said in sentences.

>>> from models.conformance import check_classifier
>>> print(*check_classifier(MyClassifier()), sep="\\n")

`python -m recipes.conformance my_recipe.yaml` does it from a command line; docs/plugins.md lists what is checked.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from models.classifier import AudioClassifier, ClassifierInfo, Evidence
from models.frontend import FrontEnd, Spectrogram

SECONDS = (1.0, 1.37, 5.0)
TOLERANCE = 1e-3  # of the largest value, between a clip alone and the same clip in a batch


class Stop(Exception):
    """A finding after which a check cannot go on."""


def check_classifier(classifier: nn.Module) -> list[str]:
    """What keeps `classifier` from being interpreted, in sentences; an empty list when nothing does.

    Noise of 1 s, 1.37 s and 5 s passes through it, one clip and three at a time, and a second of silence. It must
    answer with `Evidence` of the documented shapes, the same for a clip alone as in a batch and for a second time,
    let a gradient through to `Spectrogram.log_magnitude`, freeze on `freeze()`, and say the truth in `describe()`. It
    is left frozen.
    """
    if not isinstance(classifier, nn.Module):
        return [f"It is of type {type(classifier).__name__}, not a torch.nn.Module."]
    if not isinstance(getattr(classifier, "frontend", None), FrontEnd):
        return ["It has no `frontend` that is a models.frontend.FrontEnd."]
    findings: list[str] = []
    for check in (_describe, _freeze, _answers, _repeats, _silence, _gradient):
        try:
            findings += check(cast(AudioClassifier, classifier))
        except Stop as finding:
            findings.append(str(finding))
    return list(dict.fromkeys(findings))


def noise(classifier: AudioClassifier, clips: int, seconds: float, level: float = 0.1) -> Spectrogram:
    """Noise on the classifier's device, every clip at another level; level 0 is silence."""
    samples = round(seconds * classifier.frontend.sample_rate)
    waveform = level * torch.randn(clips, samples, generator=torch.Generator().manual_seed(0))
    device = next(classifier.parameters(), waveform).device
    return classifier.frontend.analyze((waveform / torch.arange(1, clips + 1).unsqueeze(1)).to(device))


def _describe(classifier: AudioClassifier) -> Iterator[str]:
    if not callable(getattr(classifier, "describe", None)):
        raise Stop("It has no method `describe`.")
    classifier.train()
    before = [buffer.clone() for buffer in classifier.buffers()]
    modes = [module.training for module in classifier.modules()]  # a frozen batch norm stays in evaluation mode
    info = classifier.describe()
    if [module.training for module in classifier.modules()] != modes:
        yield "`describe()` changes its mode."
    if not all(map(torch.equal, before, classifier.buffers())):
        yield "`describe()` changes its buffers."
    if not isinstance(info, ClassifierInfo):
        raise Stop(f"`describe()` returns {type(info).__name__}, not models.classifier.ClassifierInfo.")
    classifier.eval()
    with torch.no_grad():
        evidence = _hear(classifier, noise(classifier, 1, 1.0))
    for name, value in _offers(classifier, evidence).items():
        said = getattr(info, name)
        if said != value:
            yield f"`describe()` says {name} is {_plain(said)}, and it is {_plain(value)}."
    if info.labels != evidence.labels:
        yield f"`describe()` says its labels are {info.labels.name!r}, and its evidence says {evidence.labels.name!r}."
    if not info.logit_scale > 0:
        yield f"`describe()` says logit_scale is {info.logit_scale}, and it must be positive."


def _offers(classifier: AudioClassifier, evidence: Evidence) -> dict[str, object]:
    """What `describe()` must say, by the fields of ClassifierInfo."""
    features = evidence.features
    provides = {"gradient"}
    if features.maps:
        provides.add("maps")
    if features.native_map is not None:
        provides.add("native_map")
    if evidence.prompts is not None:
        provides.add("prompts")
    return {
        "num_classes": evidence.logits.shape[-1],
        "sample_rate": classifier.frontend.sample_rate,
        "n_fft": classifier.frontend.n_fft,
        "map_channels": tuple(feature_map.shape[1] for feature_map in features.maps if feature_map.ndim == 4),
        "provides": provides,
        "prompt_size": None if evidence.prompts is None else evidence.prompts.shape[-1],
        "earlier_maps": len(features.earlier_maps),
    }


def _freeze(classifier: AudioClassifier) -> Iterator[str]:
    classifier.train()
    if not callable(getattr(classifier, "freeze", None)):
        classifier.eval().requires_grad_(False)
        raise Stop("It has no method `freeze`.")
    if classifier.freeze() is not classifier:
        yield "`freeze()` does not return the classifier itself."
    if any(module.training for module in classifier.modules()):
        yield "`freeze()` leaves a module in training mode."
    learning = [name for name, parameter in classifier.named_parameters() if parameter.requires_grad]
    if learning:
        yield f"`freeze()` leaves {len(learning)} parameters with a gradient, such as {learning[0]}."
    classifier.eval().requires_grad_(False)


@torch.no_grad()
def _answers(classifier: AudioClassifier) -> Iterator[str]:
    """What is wrong with its answers for clips of several lengths, alone and in a batch."""
    for seconds in SECONDS:
        sound = noise(classifier, 3, seconds)
        try:
            together, alone = _hear(classifier, sound), _hear(classifier, sound[:1])
        except Stop as finding:
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
    for feature_map in features.maps:
        if feature_map.ndim == 4 and len(feature_map) == clips:
            sizes.append(tuple(feature_map.shape[2:]))
        else:
            yield f"One of its maps is {_shape(feature_map)} for {clips} clips, not [B, C, h, w]."
    if any(fine[axis] < coarse[axis] for fine, coarse in pairwise(sizes) for axis in (0, 1)):
        yield f"Its maps do not go from fine to coarse: {sizes}."
    if features.earlier_maps and features.native_map is None:
        yield "It has earlier maps, and no native map that they come before."
    names = [*(f"earlier map {number}" for number in range(len(features.earlier_maps))), "native map"]
    for name, layer_map in zip(names, features.layer_maps, strict=False):
        if layer_map.ndim != 4 or len(layer_map) != clips or layer_map.shape[1] != 1:
            yield f"Its {name} is {_shape(layer_map)} for {clips} clips, not [B, 1, h, w]."
        elif layer_map.min() < 0:
            yield f"Its {name} has negative values."


@torch.no_grad()
def _repeats(classifier: AudioClassifier) -> Iterator[str]:
    """What a frozen classifier changes by answering, or answers otherwise the second time."""
    sound = noise(classifier, 2, 1.0)
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    first, second = _hear(classifier, sound).logits, _hear(classifier, sound).logits
    if (first - second).abs().max() > TOLERANCE * first.abs().max():
        yield "Its logits for the same clips differ from one call to the next."
    if not all(torch.equal(value, before[name]) for name, value in classifier.state_dict().items()):
        yield "It changes its parameters or buffers when it answers."


@torch.no_grad()
def _silence(classifier: AudioClassifier) -> Iterator[str]:
    evidence = _hear(classifier, noise(classifier, 1, 1.0, level=0))
    for name, value in zip(_names(evidence), _tensors(evidence), strict=True):
        if not value.isfinite().all():
            yield f"Its {name} are not finite on silence."


def _gradient(classifier: AudioClassifier) -> Iterator[str]:
    sound = noise(classifier, 2, 1.0)
    log_magnitude = sound.log_magnitude.clone()
    log_magnitude[1] = 0  # silence
    logits = _hear(classifier, replace(sound, log_magnitude=log_magnitude.requires_grad_())).logits
    try:
        (gradient,) = torch.autograd.grad(logits.amax(dim=1).sum(), log_magnitude)
    except RuntimeError:
        raise Stop("No gradient reaches the spectrogram's log_magnitude.") from None
    if not gradient.isfinite().all():
        yield "The gradient with respect to log_magnitude is not finite."
    elif gradient[0].abs().max() == 0:
        yield "The gradient with respect to log_magnitude is zero everywhere."


def _hear(classifier: AudioClassifier, sound: Spectrogram) -> Evidence:
    """Evidence for a sound. Raises Stop if there is none."""
    try:
        evidence = classifier(sound)
    except Exception as error:
        seconds = sound.num_samples / classifier.frontend.sample_rate
        where = f"{len(sound)} clips of {seconds:g} s"
        raise Stop(f"It raises {type(error).__name__} on {where}: {error}") from error
    if not isinstance(evidence, Evidence):
        raise Stop(f"It returns {type(evidence).__name__}, not models.classifier.Evidence.")
    return evidence


def _names(evidence: Evidence) -> list[str]:
    """What `_tensors` returns, in words."""
    names = ["logits", "embeddings"] + [f"maps[{index}]" for index in range(len(evidence.features.maps))]
    names += [f"earlier_maps[{index}]" for index in range(len(evidence.features.earlier_maps))]
    return names + ["native maps"] * (evidence.features.native_map is not None)


def _tensors(evidence: Evidence) -> list[Tensor]:
    return [evidence.logits, *evidence.features.tensors]


def _shape(tensor: Tensor) -> list[int]:
    return list(tensor.shape)


def _plain(value: object) -> object:
    return sorted(value) if isinstance(value, set | frozenset) else value
