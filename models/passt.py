"""PaSST backbone: a vision transformer on overlapping patches of a mel spectrogram, of which training leaves some out.

Koutini et al., Efficient Training of Audio Transformers with Patchout, Interspeech 2022 (arXiv 2110.05069). It hears
through `models.mobilenet.PreemphasisMelAdapter`, whose numbers the AudioSet MobileNets took over from it. The modules
are named after the published state dicts, so that no tensor needs renaming.
"""

from collections import OrderedDict
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.adapters import MelBands, to_linear
from models.classifier import Features
from models.errors import UsageError
from models.pretrained import fill, read_checkpoint
from models.vit import mean_attention

SIZES = {
    "nano": {"width": 48, "heads": 3, "depth": 4},
    "light": {"width": 768, "heads": 12, "depth": 7},
    "base": {"width": 768, "heads": 12, "depth": 12},
}
PATCH = 16  # mel bands, and frames of 10 ms
PREDICTORS = ("head.1.", "head_dist.")  # of a published classifier's own classes; the second one is for training
TOKENS = 2  # of the class and of distillation, which stand before those of the patches


class PaSST(nn.Module):
    """PaSST without its predictor.

    A patch is 16 mel bands by 16 frames. Its position is told by two learned vectors, one for its row (mel) and one for
    its column (time), so a clip may be shorter than the network was made for; in training it then takes the positions
    from a random column on, as the authors do. Patch-out (section 2.2, structured) leaves whole random rows and columns
    out in training, the same ones for all clips of a batch, and none afterwards.

    The head sees the mean of the class and the distillation token, normalised as the published predictor's first layer
    does. The native map is the attention that these two pay in the last layer, averaged over both and over the heads;
    there is none in training. Maps [B, C, h, w], with h along time and w along mel, are the tokens before four of the
    layers, the last one among them: what that one says of patches does not lead to the head.

    Arguments
    ---------
    adapter: what it hears with; tells where its mel bands lie.
    size: "nano" (0.14M parameters), "light" (50M) or "base" (85M). The published ones are of the last two.
    weights: path of a published state dict such as `passt-s-f128-p16-s10-ap.476-swa.pt`, or None: from scratch.
    stride: bands, and frames, from one patch to the next: 10 in most published networks, 12, 14 or 16 in others.
    frames: the clip of which positions are known, in frames of 10 ms: 998 in most published networks, 2000 and 3000 in
        others.
    patchout_time, patchout_mel: shares of the columns and rows that are left out in training, from 0 to less than 1.

    Raises UsageError for an argument out of range, and for weights that are missing or are not exactly this network's.
    """

    map_name = "attention"

    linear: Tensor

    def __init__(
        self,
        adapter: MelBands,
        size: str = "base",
        weights: str | None = None,
        stride: int = 10,
        frames: int = 998,
        patchout_time: float = 0.0,
        patchout_mel: float = 0.0,
    ):
        super().__init__()
        if size not in SIZES:
            raise UsageError(f"size={size!r} is not one of {', '.join(SIZES)}")
        if not 1 <= stride <= PATCH or frames < PATCH:
            raise UsageError(
                f"stride={stride} must be from 1 to {PATCH}, the size of a patch, and frames={frames} at least {PATCH}"
            )
        if not (0 <= patchout_time < 1 and 0 <= patchout_mel < 1):
            raise UsageError(
                f"patchout_time={patchout_time} and patchout_mel={patchout_mel} are shares from 0 to less than 1"
            )
        self.size, self.stride, self.frames = size, stride, frames
        self.patchout_time, self.patchout_mel = patchout_time, patchout_mel
        self.silence = adapter.silence
        width, heads, depth = SIZES[size].values()
        self.mapped = [(depth - 1) * quarter // 4 for quarter in (1, 2, 3, 4)]  # layers whose input is a map
        rows = (adapter.num_mels - PATCH) // stride + 1
        self.patch_embed = nn.Sequential(OrderedDict(proj=nn.Conv2d(1, width, PATCH, stride)))
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.dist_token = nn.Parameter(torch.empty(1, 1, width))
        self.new_pos_embed = nn.Parameter(torch.empty(1, TOKENS, width))
        self.freq_new_pos_embed = nn.Parameter(torch.empty(1, width, rows, 1))
        self.time_new_pos_embed = nn.Parameter(torch.empty(1, width, 1, frames // stride))
        self.blocks = nn.Sequential(*[_Block(width, heads) for _ in range(depth)])
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Sequential(nn.LayerNorm(width))
        self.embedding_size = width
        self.register_buffer("linear", to_linear(adapter, (PATCH - 1) / 2, stride, rows), persistent=False)  # [rows, F]
        self._start()
        self.provenance = "from scratch"
        if weights is not None:
            self._load(Path(weights))
            self.provenance = str(weights)

    def forward(self, image: Tensor) -> Features:
        """image [B, 1, mels, frames] to Features with four maps of patches and attention [B, 1, h, F].

        Less than 16 frames are padded with silence. Raises UsageError for more frames than positions are known of.
        """
        image = F.pad(image, (0, max(0, PATCH - image.shape[3])), value=self.silence)
        patches = self.patch_embed(image)  # [B, C, rows, columns]
        patches = patches + self.freq_new_pos_embed + self._time_positions(patches.shape[3])
        if self.training:
            patches = _leave_out(_leave_out(patches, 3, self.patchout_time), 2, self.patchout_mel)
        rows = patches.shape[2]
        leading = torch.cat([self.cls_token, self.dist_token], dim=1) + self.new_pos_embed
        tokens = torch.cat([leading.expand(len(image), -1, -1), patches.flatten(2).transpose(1, 2)], dim=1)
        maps = []
        for number, block in enumerate(self.blocks):
            if number in self.mapped:
                feature_map = _as_map(tokens, rows)
                maps.append(feature_map)
                # what goes on is the map itself, so that a gradient reaches it
                tokens = torch.cat([tokens[:, :TOKENS], feature_map.transpose(2, 3).flatten(2).transpose(1, 2)], dim=1)
            heard, tokens = tokens, block(tokens)
        native_map = None
        if not self.training:
            attention = cast(_Block, self.blocks[-1]).attention(heard)
            native_map = _as_map(attention.unsqueeze(2), rows) @ self.linear
        embedding = self.head(self.norm(tokens[:, :TOKENS]).mean(dim=1))
        return Features(embedding, tuple(maps), native_map)

    def _time_positions(self, columns: int) -> Tensor:
        """[1, C, 1, columns] of the columns of a clip."""
        spare = self.time_new_pos_embed.shape[3] - columns
        if spare < 0:
            longest = (self.time_new_pos_embed.shape[3] * self.stride + PATCH - 1) // 10 / 10  # s
            raise UsageError(
                f"this classifier hears {longest:g} s at most: set clip_seconds to no more, or let it hear windows, "
                f"--windows='{{seconds: {longest:g}}}'"
            )
        first = int(torch.randint(spare + 1, ())) if self.training else 0
        return self.time_new_pos_embed[..., first : first + columns]

    def _start(self) -> None:
        """Random weights as the authors draw them: all but the patches' from a normal distribution that is cut off."""
        for token in (self.cls_token, self.dist_token):
            nn.init.trunc_normal_(token, std=0.02)
        for position in (self.new_pos_embed, self.freq_new_pos_embed, self.time_new_pos_embed):
            nn.init.trunc_normal_(position, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def _load(self, path: Path) -> None:
        state = {key: value for key, value in read_checkpoint(path).items() if not key.startswith(PREDICTORS)}
        network = f"a PaSST of size {self.size} with stride={self.stride} and frames={self.frames}"
        fill(self, state, f"weights={str(path)!r} are not those of {network}")


class _Block(nn.Module):
    """Self-attention and two linear layers, each on normalised tokens and added to them."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = _Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        hidden, out = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.mlp = nn.Sequential(OrderedDict(fc1=hidden, act=nn.GELU(), fc2=out))

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens [B, N, C] to tokens of the same shape."""
        tokens = tokens + self.attn(self.norm1(tokens))
        return tokens + self.mlp(self.norm2(tokens))

    def attention(self, tokens: Tensor) -> Tensor:
        """[B, N]: the attention that the first two of these tokens pay, averaged over them and the heads."""
        query, key, _ = self.attn.parts(self.norm1(tokens))
        return mean_attention(query[:, :TOKENS].float(), key.float(), query.shape[3] ** -0.5)


class _Attention(nn.Module):
    """Multi-head self-attention (Vaswani et al., 2017) with queries, keys and values in one layer."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        query, key, value = (part.transpose(1, 2) for part in self.parts(tokens))
        mixed = F.scaled_dot_product_attention(query, key, value)  # [B, heads, N, D]
        return self.proj(mixed.transpose(1, 2).flatten(2))

    def parts(self, tokens: Tensor) -> tuple[Tensor, ...]:
        """Queries, keys and values [B, N, heads, D] of tokens [B, N, C]."""
        return self.qkv(tokens).unflatten(2, (3, self.heads, -1)).unbind(dim=2)


def _leave_out(patches: Tensor, dim: int, share: float) -> Tensor:
    """Patches [B, C, rows, columns] without a random share of their rows or columns; the rest keeps its order."""
    count = patches.shape[dim]
    kept = count - round(share * count)
    if kept == count:
        return patches
    chosen = torch.randperm(count)[: max(1, kept)].sort().values
    return patches.index_select(dim, chosen.to(patches.device))


def _as_map(tokens: Tensor, rows: int) -> Tensor:
    """[B, 2 + rows * columns, C] to [B, C, columns, rows], without the first two tokens."""
    return tokens[:, TOKENS:].transpose(1, 2).unflatten(2, (rows, -1)).transpose(2, 3)
