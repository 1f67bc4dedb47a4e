"""The interpreter contract: one class, one verb, one result type."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from models.classifier import AudioClassifier, ClassifierInfo, Evidence
from models.errors import UsageError
from models.frontend import Spectrogram


@dataclass(frozen=True)
class Interpretation:
    """An answer to "what did the classifier listen to?" for B clips.

    relevant, residual: the two parts of the input, as spectrograms that a classifier and the front end can take.
    saliency: [B, T, F] in [0, 1], the mask behind them. target: [B] the class that is explained. importance: [B, T, F]
    of any sign and scale, by which bins are ranked where the mask was cut from a map; None: by the mask itself.
    """

    relevant: Spectrogram
    residual: Spectrogram
    saliency: Tensor
    target: Tensor
    importance: Tensor | None = None

    @property
    def ranking(self) -> Tensor:
        """[B, T, F] by which bins are ranked."""
        return self.saliency if self.importance is None else self.importance


class Interpreter(nn.Module, ABC):
    """Base of all interpreters.

    A subclass states what it needs of a classifier in `requires` (out of "maps", "saliency", "gradient") and implements
    `interpret`. One that is trained also implements `loss` and sets `trainable`. It never sees a batch, labels,
    configuration, a path or a Brain, and the classifier it is handed is frozen and in evaluation mode.

    Arguments
    ---------
    info: what the classifier offers, from `AudioClassifier.describe`; recipes pass it, YAML gives the rest.

    Raises UsageError when the classifier lacks something required.
    """

    requires: frozenset[str] = frozenset()
    trainable: bool = False
    quantiles: tuple[float, ...] = ()

    def __init__(self, info: ClassifierInfo):
        super().__init__()
        lacking = sorted(self.requires - info.provides)
        if lacking:
            raise UsageError(
                f"{type(self).__name__} needs {', '.join(sorted(self.requires))} of a classifier, and this one has no "
                f"{', '.join(lacking)}: choose another classifier or interpreter"
            )

    @abstractmethod
    def interpret(self, classifier: AudioClassifier, spectrogram: Spectrogram, evidence: Evidence) -> Interpretation:
        """Explain the predicted class of every clip.

        spectrogram: B clips. evidence: what the classifier said about exactly these clips.
        """

    def saliency(self, classifier: AudioClassifier, spectrogram: Spectrogram, evidence: Evidence) -> Tensor:
        """The map [B, T, F] by which bins are ranked: `interpret`'s, or what it thresholds."""
        return self.interpret(classifier, spectrogram, evidence).saliency

    def sweep(
        self, classifier: AudioClassifier, spectrogram: Spectrogram, evidence: Evidence
    ) -> Iterator[Interpretation]:
        """One interpretation for every setting in `quantiles`, or the only one of an interpreter without a sweep."""
        yield self.interpret(classifier, spectrogram, evidence)

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

    def forward(self, *given, **options) -> dict[str, Tensor]:
        """`loss`, for wrappers of modules that hand on calls only, such as DistributedDataParallel."""
        return self.loss(*given, **options)


def masked(
    spectrogram: Spectrogram, mask: Tensor, evidence: Evidence, importance: Tensor | None = None
) -> Interpretation:
    """The interpretation of a mask [B, T, F] in [0, 1]: relevant = mask x X, residual = (1 - mask) x X, log1p each."""
    parts = spectrogram.masked(mask), spectrogram.masked(1 - mask)
    return Interpretation(*parts, mask, evidence.prediction.detach(), importance)
