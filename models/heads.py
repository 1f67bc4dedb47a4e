"""The last layer of a classifier, by name: cosines to a vector a class, or a linear layer."""

from torch import nn

from models.classifier import CosineHead
from models.errors import UsageError

HEADS = ("cosine", "linear")


class Head(nn.Module):
    """Makes the module embedding [B, input_size] -> logits [B, num_classes] of a kind; it is never one itself.

    A class, because a bundle builds nothing else. What it makes is no child of it, so that weights keep their names.

    Arguments
    ---------
    kind: "cosine" (`CosineHead`, of SpeechBrain's FocalNet and ViT, and of its CNN14 since April 2024), or "linear"
        (`torch.nn.Linear`, of the CNN14 that the L-MAC, LMAC-TD and L2I recipes explain).
    num_blocks: batch norm and linear blocks before the cosines. scale: of the cosines.

    Raises UsageError for another kind, and for blocks before a linear head, which no published classifier has.
    """

    def __new__(  # type: ignore[misc]  # it makes one of two other modules
        cls, input_size: int, kind: str = "cosine", num_classes: int = 50, num_blocks: int = 0, scale: float = 30.0
    ) -> nn.Module:
        if kind not in HEADS:
            raise UsageError(f"head={kind!r} is not one of {', '.join(HEADS)}")
        if kind == "cosine":
            return CosineHead(input_size, num_classes, num_blocks, scale)
        if num_blocks:
            raise UsageError(
                f"head_blocks={num_blocks} stand before a cosine head only: pass --head_blocks=0 or --head=cosine"
            )
        return nn.Linear(input_size, num_classes)
