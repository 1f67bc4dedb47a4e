"""CNN14 backbone.

Kong et al., PANNs, IEEE/ACM TASLP 2020 (arXiv 1912.10211). The network is SpeechBrain's `Cnn14`; this file names its
intermediate maps, offers narrower networks of the same kind, and reads published weights.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from speechbrain.lobes.models.Cnn14 import Cnn14, ConvBlock
from torch import Tensor, nn

from models.classifier import Features
from models.convolution import NARROW, NarrowConv2d
from models.errors import UsageError
from models.pretrained import fill, read_checkpoint

PANNS_BESIDE = ("spectrogram_extractor.", "logmel_extractor.", "bn0.", "fc1.", "fc_audioset.")
"""What PANNs' checkpoint holds beside the convolution blocks: its front end, the norm of its mel bands, its head."""


class CNN14(nn.Module):
    """CNN14 of six convolution blocks.

    Arguments
    ---------
    num_mels: mel bands of the input.
    width: channels relative to the paper's 64 … 2048; 1 gives 75.5M parameters, 0.5 18.9M, 0.25 4.7M.
    weights: None (from scratch), or the path of a checkpoint of width 1: SpeechBrain's of VGGSound
        (`embedding_model.ckpt` of its `cnn14-esc50`, 80 mel bands), or one of PANNs' of AudioSet
        (`Cnn14_mAP=0.431.pth`). Of the latter the convolution blocks are taken; its norm of 64 mel bands in dB does not
        fit bands of log1p magnitude, so ours starts anew.

    Raises UsageError for a width that leaves a block without channels, for weights with another width than 1, and for
    weights that are missing or are not those of a CNN14 with this number of mel bands.
    """

    def __init__(self, num_mels: int = 80, width: float = 1.0, weights: str | None = None):
        super().__init__()
        channels = [round(64 * 2**block * width) for block in range(6)]
        if channels[0] < 1:
            raise UsageError(f"width={width} leaves CNN14's first block without channels; use at least 1/64")
        self.model = Cnn14(mel_bins=num_mels, emb_dim=channels[-1], return_reps=True)
        if width != 1:
            for block, (before, after) in enumerate(zip([1, *channels], channels, strict=False), start=1):
                setattr(self.model, f"conv_block{block}", ConvBlock(before, after, "bn"))
        self.model.to(memory_format=torch.channels_last)  # a quarter faster in bf16 on CPU, no slower elsewhere
        for block in range(1, 7):
            if num_mels // 2 ** (block - 1) < NARROW:
                layers = cast(ConvBlock, self.model.get_submodule(f"conv_block{block}"))
                layers.conv1, layers.conv2 = NarrowConv2d.of(layers.conv1), NarrowConv2d.of(layers.conv2)
        self.embedding_size = channels[-1]
        self.provenance = "from scratch"
        if weights is not None:
            if width != 1:
                raise UsageError(f"weights={weights!r} are of width 1, not {width}: pass --width=1 or --weights=null")
            self._load(Path(weights))
            self.provenance = str(weights)

    def forward(self, mel: Tensor) -> Features:
        """mel [B, T, num_mels] log1p magnitude to Features with the maps of blocks 3, 4, 5 and 6."""
        embedding, coarse_to_fine = self.model(mel)
        return Features(embedding.squeeze(1), tuple(reversed(coarse_to_fine)))

    def _load(self, path: Path) -> None:
        state = read_checkpoint(path)
        if "bn0.weight" in state:
            state = from_panns(state) | self.model.norm0.state_dict(prefix="norm0.")
        fill(self.model, state, f"weights={str(path)!r} are not those of this CNN14")


def from_panns(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The convolution blocks of PANNs' CNN14 under SpeechBrain's names."""
    renamed = {}
    for key, value in state.items():
        if not key.startswith(PANNS_BESIDE):
            renamed[re.sub(r"\.bn(\d)\.", r".norm\1.", key)] = value
    return renamed
