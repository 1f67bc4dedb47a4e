"""The convolutional classifier of PIQ.

Paissan et al., Posthoc Interpretation via Quantization, arXiv 2303.12659. The network is SpeechBrain's
`Conv2dEncoder_v2`; this file names its intermediate maps and pools the last one.
"""

from pathlib import Path

from speechbrain.lobes.models.PIQ import Conv2dEncoder_v2
from torch import Tensor, nn

from models.classifier import Features
from models.pretrained import fill, read_checkpoint


class Conv2d(nn.Module):
    """Four convolutions that halve the spectrogram, and a residual block: 3.8M parameters at 256 channels.

    Arguments
    ---------
    channels: of every layer, and of the embedding.
    weights: None (from scratch), or the path of a checkpoint of SpeechBrain's encoder with as many channels, such as
        `embedding_model.ckpt` of its `PIQ-ESC50`.

    Raises UsageError for weights that are missing or are not this network's.
    """

    def __init__(self, channels: int = 256, weights: str | None = None):
        super().__init__()
        self.model = Conv2dEncoder_v2(channels)
        self.embedding_size = channels
        self.provenance = "from scratch"
        if weights is not None:
            fill(self.model, read_checkpoint(Path(weights)), f"weights={weights!r} are not those of this Conv2d")
            self.provenance = str(weights)

    def forward(self, log_magnitude: Tensor) -> Features:
        """log1p magnitude [B, T, F], T and F at least 16, to Features with maps at 1/4, 1/8 and twice 1/16 of it.

        The last map is that of the residual block, and the embedding is its mean.
        """
        network, maps = self.model, []
        plane = log_magnitude.unsqueeze(1)
        layers = (network.conv1, network.bn1), (network.conv2, network.bn2), (network.conv3, network.bn3)
        for convolution, norm in (*layers, (network.conv4, network.bn4)):
            plane = network.nonl(norm(convolution(plane)))
            maps.append(plane)
        maps.append(network.resblock(plane))
        return Features(maps[-1].mean(dim=(2, 3)), tuple(maps[1:]))
