"""The interpreter contract: one class, one verb, one result type."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.classifier import AudioClassifier, ClassifierInfo, Evidence
from models.errors import UsageError
from models.frontend import Spectrogram

ABILITIES = frozenset({"maps", "native_map", "gradient", "prompts"})
WHO_HAS = {
    "native_map": "FocalNet, ViT and AST have one, and gradients, perturbations and the trained methods do without",
    "maps": "FocalNet, ViT, AST, CNN14 and MobileNet have them, and perturbations do without",
    "gradient": "perturbations do without",
    "prompts": "CLAP has them, and every other method does without",
}
"""By ability: which classifiers have it, and which methods fit a classifier that lacks it."""

ANY_CLASS = "the gradient and perturbation methods (grad_cam, lime, ...), PIQ, L2I and the controls"


@dataclass(frozen=True)
class Interpretation:
    """An answer to "what did the classifier listen to?" for B clips.

    relevant, residual: the two parts of the input, as spectrograms that a classifier and the front end can take.
    mask: [B, T, F] in [0, 1], what is kept. target: [B] the class that is explained. importance: [B, T, F] of any sign
    and scale, by which bins are ranked: the map that the mask was cut from, or the mask itself.
    """

    relevant: Spectrogram
    residual: Spectrogram
    mask: Tensor
    target: Tensor
    importance: Tensor


class Interpreter(nn.Module, ABC):
    """Base of all interpreters.

    A subclass states what it needs of a classifier in `requires` (out of `ABILITIES`) and
    implements `interpret`. One that can explain any class, and not the predicted one alone, sets `answers_any_class`.
    One that is trained also implements `loss`, sets `trainable`, and names in `training_settings` those of its settings
    that only training looks at, so that tools refuse to change them afterwards. It never sees a batch, labels,
    configuration, a path or a Brain, and the classifier it is handed is frozen and in evaluation mode.

    Arguments
    ---------
    info: what the classifier offers, from `AudioClassifier.describe`; recipes pass it, YAML gives the rest.

    Raises UsageError when the classifier lacks something required, and for a method that takes no `target`.
    """

    requires: frozenset[str] = frozenset()
    answers_any_class: bool = False
    trainable: bool = False
    training_settings: frozenset[str] = frozenset()
    quantiles: tuple[float, ...] = ()

    def __init__(self, info: ClassifierInfo):
        super().__init__()
        self._check_contract()
        lacking = sorted(self.requires - info.provides)
        if lacking:
            raise UsageError(
                f"{type(self).__name__} needs {', '.join(sorted(self.requires))} of a classifier, and this one has no "
                f"{', '.join(lacking)}: {'; '.join(WHO_HAS[ability] for ability in lacking)}"
            )

    def _check_contract(self) -> None:
        name = type(self).__name__
        unknown = sorted(self.requires - ABILITIES)
        if unknown:
            raise UsageError(
                f"{name} requires {', '.join(unknown)}, and a classifier's abilities are "
                f"{', '.join(sorted(ABILITIES))} (native_map was called saliency)"
            )
        for verb in ("interpret", "importance", "sweep"):
            try:
                inspect.signature(getattr(self, verb)).bind("classifier", "spectrogram", "evidence", "target")
            except TypeError:
                raise UsageError(
                    f"{name}.{verb} must take (classifier, spectrogram, evidence, target=None), where target [B] is "
                    "the class to explain and None the predicted one"
                ) from None

    @abstractmethod
    def interpret(
        self, classifier: AudioClassifier, spectrogram: Spectrogram, evidence: Evidence, target: Tensor | None = None
    ) -> Interpretation:
        """Explain one class of every clip.

        spectrogram: B clips. evidence: what the classifier said about exactly these clips. target: LongTensor [B] of
        class indices; None: the predicted class. A subclass passes it through `asked_class` first.
        """

    def importance(
        self, classifier: AudioClassifier, spectrogram: Spectrogram, evidence: Evidence, target: Tensor | None = None
    ) -> Tensor:
        """The map [B, T, F] by which bins are ranked."""
        return self.interpret(classifier, spectrogram, evidence, target).importance

    def sweep(
        self, classifier: AudioClassifier, spectrogram: Spectrogram, evidence: Evidence, target: Tensor | None = None
    ) -> Iterator[Interpretation]:
        """One interpretation for every setting in `quantiles`, or the only one of an interpreter without a sweep."""
        yield self.interpret(classifier, spectrogram, evidence, target)

    def asked_class(self, evidence: Evidence, target: Tensor | None) -> Tensor:
        """[B] the class to explain: the target, or the predicted class where it is None.

        Raises UsageError for a target of another type or shape, for an index that is no class, and for a class other
        than the predicted one when the method does not answer for any class.
        """
        predicted = evidence.prediction.detach()
        if target is None:
            return predicted
        if not isinstance(target, Tensor) or target.dtype != torch.int64 or target.shape != predicted.shape:
            described = f"{target.dtype} {list(target.shape)}" if isinstance(target, Tensor) else type(target).__name__
            raise UsageError(
                f"target must be a LongTensor [{len(predicted)}], a class index for each clip, not {described}"
            )
        target = target.to(predicted.device)
        classes = evidence.logits.shape[1]
        outside = (target < 0) | (target >= classes)
        if outside.any():
            wrong = target[outside][0].item()
            raise UsageError(f"target={wrong} is no class: the {classes} classes are 0 to {classes - 1}")
        differs = target != predicted
        if not self.answers_any_class and differs.any():
            raise UsageError(
                f"{type(self).__name__} explains the predicted class only: class {target[differs][0].item()} was asked "
                f"for where {predicted[differs][0].item()} is predicted; {ANY_CLASS} answer for any class"
            )
        return target

    def fit(self, spectrograms: Iterable[Spectrogram]) -> None:
        """Learn from one pass over the training clips, as they are, what no gradient teaches; mostly nothing.

        Called once, before the first epoch. The same clips must give the same result.
        """

    def loss(
        self,
        classifier: AudioClassifier,
        spectrogram: Spectrogram,
        evidence: Evidence,
        clean: Spectrogram | None = None,
    ) -> dict[str, Tensor]:
        """Named, weighted loss terms, each [B], whose sum over names averaged over clips is minimised.

        clean: the uncontaminated sound where training mixes noise into `spectrogram`, same [B, T, F]; None says that
        the input is clean itself. Per-clip terms make the objective independent of the batch size. Only trainable
        interpreters have one.
        """
        raise TypeError(f"{type(self).__name__} is not trainable and has no loss")

    def published_parts(self) -> dict[str, nn.Module]:
        """The networks that released checkpoints fill, by the names of their files; none where none fits."""
        return {}

    def class_layers(self) -> tuple[nn.Module, ...]:
        """Those of its networks whose weights have a row for each class, in the order of the classifier's outputs."""
        return ()

    def forward(self, *arguments, **options) -> dict[str, Tensor]:
        """`loss`, for wrappers of modules that hand on calls only, such as DistributedDataParallel."""
        return self.loss(*arguments, **options)


def masked(spectrogram: Spectrogram, mask: Tensor, target: Tensor, importance: Tensor | None = None) -> Interpretation:
    """The interpretation of a mask [B, T, F] in [0, 1]: relevant = mask x X, residual = (1 - mask) x X, log1p each.

    target: [B] the class that is explained. importance: the map that the mask was cut from; None: the mask itself.
    """
    relevant, residual = spectrogram.masked(mask), spectrogram.masked(1 - mask)
    return Interpretation(relevant, residual, mask, target, mask if importance is None else importance)
