"""Vector quantisation with a codebook that is divided among classes.

van den Oord et al., Neural Discrete Representation Learning, NeurIPS 2017: the straight-through gradient.
Paissan et al., Posthoc Interpretation via Quantization, arXiv 2303.12659: one part of the codebook a class.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.errors import UsageError

OWNERS = ("even", "published")


def even_owners(num_codes: int, num_classes: int) -> Tensor:
    """The class [K] of each code: contiguous parts whose sizes differ by one at most."""
    return torch.arange(num_codes) * num_classes // num_codes


def published_owners(num_codes: int, num_classes: int) -> Tensor:
    """The class [K] of each code in released codebooks: K even points from -1/2 to C - 0.51, rounded to whole classes.

    Of 1024 codes and 50 classes, 20 at the borders belong to the class above that of `even_owners`.
    """
    return torch.linspace(-0.5, num_classes - 0.51, num_codes).round().long()


@dataclass(frozen=True)
class Quantized:
    """Codes chosen for B feature maps.

    straight_through: [B, D, h, w] the codes, with the gradient of a decoder handed to the encoder unchanged.
    codes: [B, D, h, w] the same values, with their gradient to the codebook. indices: [B, h, w] its rows.
    """

    straight_through: Tensor
    codes: Tensor
    indices: Tensor


class ClassCodebook(nn.Module):
    """K code vectors of which every class owns a part of its own, in training as in evaluation.

    Arguments
    ---------
    num_codes: K. dim: D, length of a code. num_classes: of the classifier that is explained.
    owners: which class a code belongs to: "even" (`even_owners`) or "published" (`published_owners`).
    class_order: the class of each part of the codebook, for a release that numbers classes otherwise; None: the parts
        are in the classifier's order.

    Raises UsageError for other owners, for an order that does not name each class once, and when K is smaller than
    num_classes, since a class would have no code.
    """

    owner: Tensor

    def __init__(
        self,
        num_codes: int,
        dim: int,
        num_classes: int,
        owners: str = "even",
        class_order: Sequence[int] | None = None,
    ):
        super().__init__()
        if owners not in OWNERS:
            raise UsageError(f"owners={owners!r} is not one of {', '.join(OWNERS)}")
        if num_codes < num_classes:
            raise UsageError(
                f"num_codes={num_codes} leaves some of the {num_classes} classes without a code: use "
                f"{num_classes} or more"
            )
        if class_order is not None and sorted(class_order) != list(range(num_classes)):
            raise UsageError(f"class_order={class_order} must name each of the classes 0 to {num_classes - 1} once")
        owner = (even_owners if owners == "even" else published_owners)(num_codes, num_classes)
        if class_order is not None:
            owner = torch.tensor(class_order)[owner]
        self.embedding = nn.Embedding(num_codes, dim)
        nn.init.uniform_(self.embedding.weight, -1 / num_codes, 1 / num_codes)
        self.register_buffer("owner", owner)  # [K] class of each code

    def _load_from_state_dict(self, state_dict, prefix, *rest):
        state_dict.setdefault(f"{prefix}owner", self.owner)  # releases, and bundles of before, leave it to the settings
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def forward(self, encoded: Tensor, target: Tensor) -> Quantized:
        """Replace each vector of encoded [B, D, h, w] by the nearest code (L2) of its clip's target [B]."""
        weight = self.embedding.weight
        encoded = encoded.to(weight.dtype)
        with torch.no_grad(), torch.autocast(encoded.device.type, enabled=False):
            # |z - e|^2 without |z|^2, which is the same for every code
            distance = weight.square().sum(dim=1) - 2 * encoded.movedim(1, -1) @ weight.T  # [B, h, w, K]
            foreign = self.owner != target[:, None]  # [B, K]
            indices = distance.masked_fill(foreign[:, None, None], torch.inf).argmin(dim=-1)
        codes = self.embedding(indices).movedim(-1, 1)
        return Quantized(codes.detach() + (encoded - encoded.detach()), codes, indices)
