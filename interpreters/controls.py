"""Controls: masks that know nothing of the classifier. An explanation is worth something where it beats them."""

from collections.abc import Callable

import torch

from interpreters.base import Interpreter, masked
from interpreters.maps import MapInterpreter, clip_seed
from models.classifier import ClassifierInfo
from models.errors import UsageError

ORDERS = ("loudest", "random")


class Ranked(MapInterpreter):
    """The loudest bins, or bins drawn at random, at the quantiles of the maps they are compared with.

    Arguments
    ---------
    order: "loudest" (by log1p magnitude) or "random". seed: of the random bins, a whole number.

    Raises UsageError as its base does, and for another order.
    """

    answers_any_class = True

    def __init__(self, info: ClassifierInfo, order: str = "loudest", quantile=0.9, seed: int = 1234):
        super().__init__(info, quantile)
        if order not in ORDERS:
            raise UsageError(f"order={order!r} must be one of {', '.join(ORDERS)}")
        self.order, self.seed = order, seed

    def importance(self, classifier, spectrogram, evidence, target=None):
        energy = spectrogram.log_magnitude
        if self.order == "loudest":
            return energy
        draws = (torch.Generator().manual_seed(clip_seed(clip, self.seed)) for clip in energy)
        return torch.stack([torch.rand(energy.shape[1:], generator=draw) for draw in draws]).to(energy)


class Constant(Interpreter):
    """The same share of every bin: 1 keeps the whole clip, 0 nothing, 0.5 the clip at half its log1p magnitude.

    Raises UsageError for a level outside [0, 1].
    """

    answers_any_class = True

    def __init__(self, info: ClassifierInfo, level: float = 1.0):
        super().__init__(info)
        if not 0 <= level <= 1:
            raise UsageError(f"level={level} must be in [0, 1]")
        self.level = level

    def interpret(self, classifier, spectrogram, evidence, target=None):
        target = self.asked_class(evidence, target)
        return masked(spectrogram, torch.full_like(spectrogram.log_magnitude, self.level), target)


class Reordered(Interpreter):
    """A reference interpreter's own mask values, clip by clip, moved to other bins.

    The largest value goes to the first bin of the order, so kept fraction, sparseness and complexity are the
    reference's and only the place differs: what the reference scores above this, it scores by knowing where.

    Arguments
    ---------
    reference: an interpreter of the same classifier, or what builds it from `info`, as in a bundle.
    order: "loudest" or "random". seed: of the random order, a whole number.

    Raises UsageError for another order.
    """

    def __init__(
        self,
        info: ClassifierInfo,
        reference: Interpreter | Callable[..., Interpreter],
        order: str = "loudest",
        seed: int = 1234,
    ):
        super().__init__(info)
        self.reference = reference if isinstance(reference, Interpreter) else reference(info=info)
        self.ranked = Ranked(info, order, seed=seed)
        self.answers_any_class = self.reference.answers_any_class

    def interpret(self, classifier, spectrogram, evidence, target=None):
        target = self.asked_class(evidence, target)
        values = self.reference.interpret(classifier, spectrogram, evidence, target).mask
        place = self.ranked.importance(classifier, spectrogram, evidence, target).flatten(1).argsort(dim=1, stable=True)
        ascending = values.flatten(1).sort(dim=1).values
        mask = torch.empty_like(ascending).scatter(1, place, ascending).view_as(values)
        return masked(spectrogram, mask, target)
