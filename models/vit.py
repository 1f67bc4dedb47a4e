"""Vision transformer backbone and its attention map.

Dosovitskiy et al., ICLR 2021; for sound as the baseline of Della Libera et al., arXiv 2402.02754, section 3.2. The
network is `transformers.ViTModel`; this file adds the attention of the class token in the last layer and the pooling.
"""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from transformers import ViTConfig, ViTModel
from transformers.utils import ModelOutput

from models.classifier import Features
from models.pretrained import load_backbone

SIZES = {
    "nano": {"width": 48, "heads": 3, "depth": 4},
    "tiny": {"width": 192, "heads": 3, "depth": 12},
    "small": {"width": 384, "heads": 6, "depth": 12},
    "base": {"width": 768, "heads": 12, "depth": 12},
}


class ViT(nn.Module):
    """ViT with 16-pixel patches on a 224-pixel image.

    The head sees the mean of all tokens, the class token among them, as in the paper's code: the attention map is the
    class token's, one voice among 197, which is worth remembering when it is read as an explanation.

    Arguments
    ---------
    size: "nano" (0.2M), "tiny" (5.6M), "small" (22M) or "base" (86M).
    weights: a hub name such as "google/vit-base-patch16-224", a local folder in the same layout, or None.
    dropout: rate on the tokens of every layer.

    Raises UsageError for an unknown size, or weights that are missing or of another shape.
    """

    map_name = "attention"

    def __init__(self, size: str = "base", weights: str | None = None, dropout: float = 0.0):
        super().__init__()
        self.model, self.provenance = load_backbone(ViTModel, self._config, SIZES, size, weights, dropout)
        self.embedding_size = self.model.config.hidden_size

    @staticmethod
    def _config(width: int, heads: int, depth: int, dropout: float) -> ViTConfig:
        return ViTConfig(
            hidden_size=width,
            num_attention_heads=heads,
            num_hidden_layers=depth,
            intermediate_size=4 * width,
            hidden_dropout_prob=dropout,
        )

    def forward(self, image: Tensor) -> Features:
        """image [B, 3, 224, 224] to Features: mean of the tokens, maps of four layers, the attention map.

        The attention map [B, 1, 14, 14] is the last layer's attention of the class token to the patches, averaged over
        heads.
        """
        attention = self.model.layers[-1].attention
        output, weights = token_attention(attention, lambda: self.model(image, output_hidden_states=True), tokens=1)
        native_map = self._as_map(weights.unsqueeze(-1))
        depth = len(output.hidden_states) - 1
        layers = [output.hidden_states[depth * quarter // 4] for quarter in (1, 2, 3, 4)]
        return Features(output.last_hidden_state.mean(dim=1), tuple(map(self._as_map, layers)), native_map)

    def _as_map(self, tokens: Tensor) -> Tensor:
        """[B, 1 + h w, C] to [B, C, h, w], without the class token."""
        side = self.model.config.image_size // self.model.config.patch_size
        return tokens[:, 1:].transpose(1, 2).unflatten(2, (side, side))


def token_attention(attention: nn.Module, run: Callable[[], ModelOutput], tokens: int) -> tuple[ModelOutput, Tensor]:
    """Run a network, and the attention [B, T] that its first tokens pay in one layer, averaged over tokens and heads.

    attention: that layer's attention, with `q_proj` and `k_proj`. Only these rows are computed, from the layer's own
    queries and keys, whatever kernel the network uses.
    """
    query: list[Tensor] = []
    key: list[Tensor] = []
    hooks = [
        attention.get_submodule("q_proj").register_forward_hook(lambda module, inputs, output: query.append(output)),
        attention.get_submodule("k_proj").register_forward_hook(lambda module, inputs, output: key.append(output)),
    ]
    try:
        output = run()
    finally:
        for hook in hooks:
            hook.remove()
    heads = cast(int, attention.num_attention_heads)
    rows = query[0][:, :tokens].float().unflatten(2, (heads, -1))  # [B, tokens, heads, D]
    keys = key[0].float().unflatten(2, (heads, -1))  # [B, T, heads, D]
    return output, mean_attention(rows, keys, cast(float, attention.scaling))


def mean_attention(query: Tensor, key: Tensor, scaling: float) -> Tensor:
    """[B, T] attention of some tokens to all, averaged over these tokens and the heads.

    query: [B, tokens, heads, D]. key: [B, T, heads, D]. scaling: of their products, before the softmax over all tokens.
    """
    weights = (torch.einsum("bqhd,bthd->bhqt", query, key) * scaling).softmax(dim=-1)
    return weights.mean(dim=(1, 2))
