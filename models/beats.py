"""BEATs backbone: a transformer on patches of a filter bank, pretrained with acoustic tokens.

Chen et al., BEATs: Audio Pre-Training with Acoustic Tokenizers, ICML 2023 (arXiv 2212.09058). The encoder is
SpeechBrain's (`speechbrain.lobes.models.beats`); what is here is the differentiable front end, the maps, and the
reading of the published checkpoints, whose tensors keep their names.
"""

import math
from pathlib import Path

from speechbrain.lobes.models.beats import BEATsConfig, TransformerEncoder
from torch import Tensor, nn

from models.classifier import Features
from models.errors import UsageError
from models.frontend import FrontEnd
from models.huggingface import FbankAdapter, quarters
from models.pretrained import facts_of_checkpoint, fill, read_checkpoint

SIZES = {
    "nano": {"encoder_layers": 4, "encoder_embed_dim": 48, "encoder_ffn_embed_dim": 96, "encoder_attention_heads": 3},
    "base": {
        "encoder_layers": 12,
        "encoder_embed_dim": 768,
        "encoder_ffn_embed_dim": 3072,
        "encoder_attention_heads": 12,
    },
}
PUBLISHED = {
    "input_patch_size": 16,
    "embed_dim": 512,
    "conv_bias": False,
    "layer_norm_first": False,
    "deep_norm": True,
    "relative_position_embedding": True,
    "num_buckets": 320,
    "max_distance": 800,
    "gru_rel_pos": True,
    "conv_pos": 128,
    "conv_pos_groups": 16,
}
"""Settings of the released encoders that the shapes of their tensors do not all tell; a checkpoint must agree."""

MEAN, STD = 15.41663, 6.55582


class BeatsAdapter(FbankAdapter):
    """BEATs' input: Kaldi's log mel filter bank (25 ms Povey windows every 10 ms) of 16-bit samples, normalised.

    Clips may have any length; less than 16 frames are padded with silence. Always float32 and differentiable.

    frontend: the classifier's front end; its rate may be any.
    """

    window, scale = "povey", 2.0**15
    min_seconds = 0.175  # of 16 frames

    def __init__(self, frontend: FrontEnd):
        super().__init__(
            frontend,
            sampling_rate=16000,
            do_normalize=True,
            num_mel_bins=128,
            max_length=math.inf,
            mean=MEAN,
            std=STD,
        )


class BEATs(nn.Module):
    """BEATs without its predictor.

    Patches are 16 frames by 16 mel bands and do not overlap, so a second has 6 times 8 tokens. All of them are kept in
    training: there is no patch-out. Positions are told by a convolution over the tokens and by a bias of their distance
    in the order of the tokens, so clips of any length pass.

    The head sees the mean of all tokens, as the published predictor averages over them. Maps are the tokens after each
    quarter of the layers, [B, C, h, w] with h along time and w = 8 along mel.

    Arguments
    ---------
    size: "nano" (0.25M parameters), or "base" (90M), the published size.
    weights: path of a published checkpoint such as `BEATs_iter3_plus_AS2M.pt`, fine-tuned or not; None: from scratch.
    dropout: rate on the tokens of every layer and on their attention.

    Raises UsageError for an unknown size, weights that are missing or are not exactly this network's, and a checkpoint
    of other settings.
    """

    def __init__(self, size: str = "base", weights: str | None = None, dropout: float = 0.0):
        super().__init__()
        if size not in SIZES:
            raise UsageError(f"size={size!r} is not one of {', '.join(SIZES)}")
        config = BEATsConfig(PUBLISHED | SIZES[size] | {"dropout": dropout, "attention_dropout": dropout})
        self.size, self.patch = size, config.input_patch_size
        self.patch_embedding = nn.Conv2d(1, config.embed_dim, self.patch, stride=self.patch, bias=config.conv_bias)
        self.layer_norm = nn.LayerNorm(config.embed_dim)
        self.post_extract_proj = nn.Linear(config.embed_dim, config.encoder_embed_dim)
        self.encoder = TransformerEncoder(config)
        self.embedding_size = config.encoder_embed_dim
        self.provenance = "from scratch"
        if weights is not None:
            self._load(Path(weights))
            self.provenance = str(weights)

    def forward(self, image: Tensor) -> Features:
        """image [B, frames, mels] to Features with the tokens of four layers."""
        patches = self.patch_embedding(image.unsqueeze(1))  # [B, 512, h, w]
        rows = patches.shape[2]
        tokens = self.post_extract_proj(self.layer_norm(patches.flatten(2).transpose(1, 2)))
        last, hidden = self.encoder(tokens, output_all_hiddens=True)
        # the encoder works on [tokens, B, C]
        maps = [layer.permute(1, 2, 0).unflatten(2, (rows, -1)) for layer in quarters(tuple(hidden))]
        return Features(last.mean(dim=1), tuple(maps))

    def _load(self, path: Path) -> None:
        state = {key: value for key, value in read_checkpoint(path).items() if not key.startswith("predictor.")}
        settings = facts_of_checkpoint(path).get("cfg", {})
        expected = PUBLISHED | SIZES[self.size]
        differing = []
        for key, value in expected.items():
            if settings.get(key, value) != value:
                differing.append(f"{key}={settings[key]!r}")
        if differing:
            raise UsageError(
                f"weights={str(path)!r} are of a BEATs with {', '.join(differing)}, and none such is built here"
            )
        fill(self, state, f"weights={str(path)!r} are not those of a BEATs of size {self.size}")
