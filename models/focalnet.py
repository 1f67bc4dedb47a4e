"""FocalNet backbone and its modulation maps.

Yang et al., Focal Modulation Networks, NeurIPS 2022; for sound: Della Libera et al., arXiv 2402.02754, equations (1)
to (5). The network is that of `models.focal_modulation`; this file adds the map of equation (2) and the pooling.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from models.classifier import Features
from models.errors import UsageError
from models.focal_modulation import LEVELS, WINDOW, FocalNetwork
from models.pretrained import load_backbone

if TYPE_CHECKING:
    from transformers import FocalNetConfig

STAGES = ["stage1", "stage2", "stage3", "stage4"]
SHALLOW = 5  # layers, of "nano": through so few the gradient of digital silence stays finite
SIZES: dict[str, dict] = {
    "nano": {"embed_dim": 24, "depths": [1, 1, 2, 1]},
    "mini": {"embed_dim": 48, "depths": [2, 2, 6, 2]},
    "tiny": {"embed_dim": 96, "depths": [2, 2, 6, 2]},
    "small": {"embed_dim": 96, "depths": [2, 2, 18, 2]},
    "base": {"embed_dim": 128, "depths": [2, 2, 18, 2]},
}


class FocalNet(nn.Module):
    """FocalNet with two focal levels of window 3, as in the paper.

    Arguments
    ---------
    size: "nano" (0.8M), "mini" (7M), "tiny" (28M), "small" (49M) or "base" (87M); with `weights` it must match them.
    weights: a hub name such as "microsoft/focalnet-base", a local folder in the same layout, or None: from scratch.
    drop_path: stochastic depth rate of the last block (linear from 0 at the first).

    Raises UsageError for an unknown size, or weights that are missing or of another shape.
    """

    map_name = "modulation"

    def __init__(self, size: str = "base", weights: str | None = None, drop_path: float = 0.1):
        super().__init__()
        if size not in SIZES:
            raise UsageError(f"size={size!r} is not one of {', '.join(SIZES)}")
        width, depths = SIZES[size]["embed_dim"], SIZES[size]["depths"]
        if weights is None:
            self.model, self.provenance = FocalNetwork(width, depths, drop_path), "from scratch"
            if sum(depths) > SHALLOW:
                _tell_silence_from_nothing(self.model)
        else:
            self.model, self.provenance = _published(size, weights, drop_path)
        self.embedding_size = width * 2 ** (len(depths) - 1)

    def forward(self, image: Tensor) -> Features:
        """image [B, 3, H, W] to Features: mean over the last stage, the four stages' maps, the modulation maps.

        A modulation map is the L2 norm over channels of a layer's modulator m(i, X) = h(sum over levels of gate x
        context), equation (2), that is the output of its context projection. The native map [B, 1, H/32, W/32] is the
        last layer's, as in the paper; those of the layers before, from [B, 1, H/4, W/4] on, are the earlier maps. There
        are none of these in training.
        """
        strengths: list[Tensor] = []

        def keep_strength(module: nn.Module, inputs: tuple[Tensor, ...], modulator: Tensor) -> None:
            strengths.append(torch.linalg.vector_norm(modulator.float(), dim=1, keepdim=True))

        mapped = self.model.modulations()
        if self.training:
            mapped = mapped[-1:]
        hooks = []
        for modulation in mapped:
            hooks.append(modulation.projection_context.register_forward_hook(keep_strength))
        try:
            maps = self.model(image.contiguous())
        finally:
            for hook in hooks:
                hook.remove()
        *earlier, last = strengths
        return Features(maps[-1].mean(dim=(2, 3)), tuple(maps), last, earlier_maps=tuple(earlier))


def _tell_silence_from_nothing(network: FocalNetwork) -> None:
    """Let an image patch of zeros, as digital silence is, enter a network of random weights as a vector of length > 0.

    All biases start at 0, so such a patch stays 0 through every layer, and each of its normalisations multiplies the
    gradient by 1 / sqrt(eps) = 316: in the 24 layers of "base" it becomes infinite at the first step.
    """
    nn.init.normal_(network.focalnet.embeddings.norm.bias)


def _published(size: str, weights: str, drop_path: float) -> tuple[FocalNetwork, str]:
    """The network with published weights, and where they came from. Raises UsageError as `load_backbone`."""
    # imported only here: it takes three seconds, and a network without such weights does not need it
    from transformers import FocalNetBackbone

    published, provenance = load_backbone(FocalNetBackbone, published_config, SIZES, size, weights, drop_path)
    with torch.device("meta"):  # no random start is drawn for what is replaced at once
        network = FocalNetwork(SIZES[size]["embed_dim"], SIZES[size]["depths"], drop_path)
    network.load_state_dict(published.state_dict(), assign=True)
    return network, provenance


def published_config(embed_dim: int, depths: list[int], drop_path: float) -> "FocalNetConfig":
    """How `transformers` is told of a network of this shape."""
    from transformers import FocalNetConfig

    return FocalNetConfig(
        embed_dim=embed_dim,
        hidden_sizes=[embed_dim * 2**stage for stage in range(4)],
        depths=depths,
        focal_levels=[LEVELS] * 4,
        focal_windows=[WINDOW] * 4,
        drop_path_rate=drop_path,
        out_features=STAGES,
    )
