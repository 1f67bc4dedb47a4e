"""The networks of LMAC-TD: a filterbank and a SepFormer that masks what it encodes.

SepFormer: Subakan et al., arXiv 2010.13154; its layers are those of `speechbrain.lobes.models.dual_path`.
"""

import math

import torch
import torch.nn.functional as F
from speechbrain.lobes.models.dual_path import Decoder, Dual_Path_Model, Encoder, SBTransformerBlock
from speechbrain.nnet.attention import MultiheadAttention
from torch import Tensor, nn

from models.errors import UsageError
from models.pretrained import load_codec

LARGEST_WEIGHTS = 2**26  # of an attention, above which they are not kept for the gradient: 256 MiB


class Codec(nn.Module):
    """Encoder (strided convolution, ReLU) and decoder (transposed convolution) between sound and frames.

    Frame i is centred on sample i x stride with stride = kernel / 2, so every sample lies in two frames. The
    decoder is linear: what two complementary masks leave sums to what the frames themselves decode to.

    Arguments
    ---------
    filters: channels of a frame. kernel: length of a filter in samples, even.
    init: "frame" makes decode(encode(x)) = x from the start: the filters are sine-windowed cosines and sines
        of filters / 4 frequencies and their negatives, so that ReLU splits signs instead of dropping them,
        and the decoder is the transpose of this tight frame. "random" is torch's, as published.
    weights: folder with `encoder.ckpt` and `decoder.ckpt` as SpeechBrain's SepFormer releases lay them out,
        used in place of `init`; or None.

    Raises UsageError for an odd kernel, an unknown init, too few filters for a frame, and weights that are
    missing or of another shape.
    """

    def __init__(self, filters: int = 256, kernel: int = 16, init: str = "frame", weights: str | None = None):
        super().__init__()
        if kernel < 2 or kernel % 2:
            raise UsageError(f"kernel={kernel} samples must be even and at least 2")
        if init not in ("frame", "random"):
            raise UsageError(f"codec={init!r} must be 'frame' (exact from the start) or 'random' (as published)")
        self.filters, self.stride = filters, kernel // 2
        self.encoder = Encoder(kernel_size=kernel, out_channels=filters)
        self.decoder = Decoder(filters, 1, kernel_size=kernel, stride=self.stride, bias=False)
        if weights is not None:
            load_codec(self.encoder, self.decoder, weights)
        elif init == "frame":
            self._init_tight_frame(filters, kernel)

    @torch.no_grad()
    def _init_tight_frame(self, filters: int, kernel: int) -> None:
        if filters % 4 or filters < 2 * kernel:
            raise UsageError(f"filters={filters} must be a multiple of 4 and at least twice kernel={kernel} in a frame")
        count = filters // 4
        sample = torch.arange(kernel) + 0.5
        window = torch.sin(math.pi * sample / kernel)  # its squares sum to 1 at a hop of half a kernel
        angle = math.pi * torch.outer(torch.arange(count) + 0.5, sample) / count
        positive = torch.cat([angle.cos(), angle.sin()]) * window / math.sqrt(count)
        frame = torch.cat([positive, -positive]).unsqueeze(1)  # [filters, 1, kernel]
        self.encoder.conv1d.weight.copy_(frame)
        self.decoder.weight.copy_(frame)

    def encode(self, waveform: Tensor) -> Tensor:
        """waveform [B, N] to frames [B, filters, ceil(N / stride) + 1], not negative, in float32."""
        num_samples = waveform.shape[1]
        end = self.stride * (math.ceil(num_samples / self.stride) + 1)
        with torch.autocast(waveform.device.type, enabled=False):
            return self.encoder(F.pad(waveform.float(), (self.stride, end - num_samples)))

    def decode(self, frames: Tensor, num_samples: int) -> Tensor:
        """frames [B, filters, L] to a waveform [B, num_samples] in float32."""
        with torch.autocast(frames.device.type, enabled=False):
            waveform = self.decoder(frames.float())
        return waveform[:, self.stride : self.stride + num_samples]


class _Attention(MultiheadAttention):
    """SpeechBrain's attention of a sequence to itself, without the weights, masks and layout that nobody needs."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor, **options: object) -> tuple[Tensor, None]:
        """query [B, L, C], which key and value are too, to what it attends to [B, L, C]; options: masks, all None."""
        layer, heads = self.att, self.att.num_heads
        projected = F.linear(query, layer.in_proj_weight, layer.in_proj_bias)  # [B, L, 3 C]
        parts = projected.unflatten(2, (3, heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        return layer.out_proj(_attended(*parts).transpose(1, 2).flatten(2)), None


def _attended(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Values [B, H, L, D] weighted by the softmax of queries times keys over the root of D."""
    batch, heads, length, size = query.shape
    fits = batch * heads * length**2 <= LARGEST_WEIGHTS
    if query.device.type != "cpu" or query.dtype is not torch.float32 or not fits:
        return F.scaled_dot_product_attention(query, key, value)
    # a quarter faster than torch's kernel for CPUs, which computes the weights anew for the gradient
    query, key, value = (part.reshape(batch * heads, length, size) for part in (query, key, value))
    weights = (query * size**-0.5 @ key.transpose(1, 2)).softmax(dim=2)
    return (weights @ value).view(batch, heads, length, size)


def _transformer(num_layers: int, width: int, heads: int, feed_forward: int) -> SBTransformerBlock:
    block = SBTransformerBlock(
        num_layers, width, heads, feed_forward, dropout=0.0, use_positional_encoding=True, norm_before=True
    )
    for layer in block.mdl.layers:
        layer.self_att = _Attention(heads, width)
    return block


class MaskNetwork(Dual_Path_Model):
    """SepFormer's dual-path mask network for one source, with the output activation as an argument.

    Arguments
    ---------
    filters: channels of input and mask. width: channels inside.
    layers: dual-path layers, each of `intra_layers` transformer layers within chunks of `chunk` frames and
        `inter_layers` across them.
    activation: what the mask passes last; a sigmoid as LMAC-TD is published, SpeechBrain's own has a ReLU.
    output_gain: factor of the last layer's initial weights; 1 as published. The gated values before it lie in
        [-1, 1], so at 1 every mask starts near 0.5: both parts are the sound at half its level, which classifiers
        hear alike, and the masking loss has next to no slope.

    Raises UsageError for an odd chunk or a width that the heads do not divide.
    """

    def __init__(
        self,
        filters: int = 256,
        width: int = 256,
        layers: int = 2,
        chunk: int = 250,
        intra_layers: int = 8,
        inter_layers: int = 2,
        heads: int = 8,
        feed_forward: int = 256,
        activation: type[nn.Module] = nn.Sigmoid,
        output_gain: float = 1.0,
    ):
        if chunk < 2 or chunk % 2:
            raise UsageError(f"chunk={chunk} frames must be even and at least 2")
        if width % heads or width % 2:
            raise UsageError(f"width={width} must be even and a multiple of heads={heads}")
        if output_gain <= 0:
            raise UsageError(f"output_gain={output_gain} must be above 0: 1 as published, 20 to start with wide masks")
        intra, inter = (_transformer(n, width, heads, feed_forward) for n in (intra_layers, inter_layers))
        super().__init__(
            filters,
            width,
            intra,
            inter,
            num_layers=layers,
            K=chunk,
            num_spks=1,
            linear_layer_after_inter_intra=False,
        )
        self.activation = activation()
        with torch.no_grad():
            self.end_conv1x1.weight.mul_(output_gain)

    def forward(self, frames: Tensor) -> Tensor:
        """frames [B, filters, L] to a mask [B, filters, L] in the range of the activation, float32."""
        return super().forward(frames).squeeze(0).float()
