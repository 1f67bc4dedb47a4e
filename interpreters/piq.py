"""PIQ: post-hoc interpretation via quantization.

Paissan et al., arXiv 2303.12659, at the sizes of Della Libera et al., arXiv 2402.02754, section 3.2. The
layers are those of SpeechBrain's `VectorQuantizedPSI_Audio` and its FocalNet and ViT variants, under the same
names, so that their weights load. What differs: any class count, any clip length, less memory in training.
"""

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from speechbrain.lobes.models.PIQ import ResBlockAudio
from torch import Tensor, distributed, nn
from torch.distributed.nn.functional import all_reduce

from interpreters.base import Interpreter, masked
from interpreters.interpolation import resize_map
from interpreters.quantize import ClassCodebook
from models.classifier import ClassifierInfo, Evidence
from models.errors import UsageError
from models.transposed import transposed_to_plane, use_products

# Kernel and stride (time, frequency) of each transposed convolution.
DECODERS = {
    # a 14 x 14 map of a square image to 431 x 513
    "image": [((3, 3), (4, 5)), ((4, 1), (2, 2)), ((4, 1), (2, 2)), ((4, 2), (2, 2)), ((10, 8), (1, 1))],
    # 16 times the size of a map that has the spectrogram's proportions
    "spectrogram": [((3, 3), (2, 2)), *[((4, 4), (2, 2))] * 3, ((12, 12), (1, 1))],
}


def mask_decoder(channels: int, kind: str) -> nn.Sequential:
    """Transposed convolutions [B, C, h, w] to [B, 1, H, W], all but the last with ReLU and batch norm."""
    *inner, (kernel, stride) = DECODERS[kind]
    layers: list[nn.Module] = []
    for inner_kernel, inner_stride in inner:
        layers += [
            nn.ConvTranspose2d(channels, channels, inner_kernel, inner_stride, padding=1),
            nn.ReLU(inplace=True),
            nn.BatchNorm2d(channels),
        ]
    return use_products(nn.Sequential(*layers, nn.ConvTranspose2d(channels, 1, kernel, stride, padding=1)))


def decode(decoder: nn.Sequential, codes: Tensor) -> Tensor:
    """`decoder(codes)`, keeping one tensor of C channels at full resolution for each clip.

    At paper size that is 0.9 GB a clip in float32, and the plain call keeps three for the backward pass. Here
    the last two convolutions take one clip after another, and the batch norm between them becomes part of the
    second one's weights. In evaluation batch norm ties no clips together: each goes through by itself.
    """
    norm, last = cast(nn.BatchNorm2d, decoder[-2]), cast(nn.ConvTranspose2d, decoder[-1])
    padding = cast(tuple[int, int], last.padding)
    if not decoder.training:
        planes = [transposed_to_plane(decoder[:-1](clip), last.weight, padding) for clip in codes.split(1)]
        return torch.cat(planes) + cast(Tensor, last.bias)
    convolution, relu = decoder[-4], decoder[-3]
    fine = [relu(convolution(clip)) for clip in decoder[:-4](codes).split(1)]
    scale, shift = _batch_norm_affine(norm, fine)
    weight = last.weight * scale[:, None, None, None]
    # What `shift` adds is the same for every clip, and constant but for the borders.
    with torch.autocast(codes.device.type, enabled=False):
        kernel = (last.weight * shift[:, None, None, None]).sum(dim=0, keepdim=True)
        plane = torch.ones_like(fine[0][:, :1], dtype=kernel.dtype)
        offset = F.conv_transpose2d(plane, kernel, last.bias, last.stride, padding)
    logits = [transposed_to_plane(clip, weight, padding) for clip in fine]
    return torch.cat(logits) + offset


class _Moments(torch.autograd.Function):
    """Mean and variance [C] of a map [1, C, H, W], in the given type.

    Autograd's own backward pass of these would make several more tensors of the map's size.
    """

    @staticmethod
    def forward(ctx, x, dtype):
        mean, unbiased = torch.zeros(2, x.shape[1], dtype=dtype, device=x.device)
        # Called for its running statistics: ten times as fast as `torch.var_mean` on channels last.
        F.batch_norm(x, mean, unbiased, training=True, momentum=1.0)
        ctx.save_for_backward(x, mean)
        count = x[0, 0].numel()
        return mean, unbiased * (count - 1) / count

    @staticmethod
    def backward(ctx, of_mean, of_variance):
        x, mean = ctx.saved_tensors
        count = x[0, 0].numel()
        slope = 2 * of_variance / count
        constant = of_mean / count - slope * mean
        return torch.addcmul(constant[:, None, None].to(x.dtype), x, slope[:, None, None].to(x.dtype)), None


def _batch_norm_affine(norm: nn.BatchNorm2d, clips: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Scale and shift [C] of batch norm in training over clips [1, C, H, W], those of all processes of a training.

    Updates running statistics.
    """
    moments = [_Moments.apply(clip, norm.weight.dtype) for clip in clips]
    means = torch.stack([mean for mean, _ in moments])  # [B, C]
    variances = torch.stack([variance for _, variance in moments])
    mean = _over_processes(means.mean(dim=0))
    variance = _over_processes((variances + (means - mean).square()).mean(dim=0))
    processes = distributed.get_world_size() if distributed.is_initialized() else 1
    count = processes * len(clips) * clips[0][0, 0].numel()
    momentum = cast(float, norm.momentum)
    with torch.no_grad():
        cast(Tensor, norm.num_batches_tracked).add_(1)
        cast(Tensor, norm.running_mean).lerp_(mean, momentum)
        cast(Tensor, norm.running_var).lerp_(variance * count / (count - 1), momentum)
    scale = norm.weight * torch.rsqrt(variance + norm.eps)
    return scale, norm.bias - mean * scale


def _over_processes(mean: Tensor) -> Tensor:
    return all_reduce(mean) / distributed.get_world_size() if distributed.is_initialized() else mean


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(cast(Tensor, module.bias))


class PIQ(Interpreter):
    """Adapter, codebook divided among classes, and decoder from one feature map to a mask.

    The clip's map is adapted, each of its vectors replaced by one of the asked class's codes (in training, the
    predicted class's), and the codes alone are decoded to the mask. No pass of the classifier is needed beyond
    the evidence.

    Arguments
    ---------
    channels: C of adapter, codes and decoder; None: the map's, as in the papers. Another number puts a 1x1
        convolution in front. There are about 67 C^2 parameters, or 99 C^2 with the spectrogram decoder.
    num_codes: K, shared out among the classifier's classes. owners, class_order: how, as `ClassCodebook` has it.
    upsample: factor of the bilinear enlargement of the map before the adapter, 2 for FocalNet's 7x7.
    decoder: "image" for maps of a square image, "spectrogram" for maps with the spectrogram's proportions.
    map_index: which of `Features.maps`, -1 being the last (coarsest).
    energy_threshold: the mask is trained towards X > energy_threshold x max X of its clip.
    codebook_weight, commitment_weight: of the two quantisation terms; 0 leaves a term out.
    threshold: None for the soft mask sigmoid(logit), or a number in [0, 1] above which the mask is 1, else 0.

    Raises UsageError for an unknown decoder, a map that does not exist, fewer codes than classes, or a number
    outside its range.
    """

    requires = frozenset({"maps"})
    answers_any_class = True
    trainable = True
    training_settings = frozenset({"energy_threshold", "codebook_weight", "commitment_weight"})

    def __init__(
        self,
        info: ClassifierInfo,
        channels: int | None = None,
        num_codes: int = 1024,
        upsample: int = 2,
        decoder: str = "image",
        map_index: int = -1,
        energy_threshold: float = 0.35,
        codebook_weight: float = 1.0,
        commitment_weight: float = 1.0,
        threshold: float | None = None,
        owners: str = "even",
        class_order: Sequence[int] | None = None,
    ):
        super().__init__(info)
        maps = len(info.map_channels)
        if decoder not in DECODERS:
            raise UsageError(f"decoder={decoder!r} must be one of {', '.join(DECODERS)}")
        if not -maps <= map_index < maps:
            raise UsageError(f"map_index={map_index} does not exist: this classifier has {maps} maps")
        map_channels = info.map_channels[map_index]
        channels = map_channels if channels is None else channels
        if channels < 1 or upsample < 1:
            raise UsageError(f"channels={channels} and upsample={upsample} must be whole and 1 or more")
        if not 0 <= energy_threshold < 1 or not (threshold is None or 0 <= threshold <= 1):
            raise UsageError(
                f"energy_threshold={energy_threshold} must be in [0, 1), and threshold={threshold} in [0, 1] or null"
            )
        self.upsample, self.map_index = upsample, map_index
        self.energy_threshold, self.threshold = energy_threshold, threshold
        self.codebook_weight, self.commitment_weight = codebook_weight, commitment_weight
        self.project = nn.Identity() if channels == map_channels else nn.Conv2d(map_channels, channels, 1)
        self.adapter = ResBlockAudio(channels)
        self.down = nn.Conv2d(channels, channels, 4, 2, padding=1)
        self.codebook = ClassCodebook(num_codes, channels, info.num_classes, owners, class_order)
        self.up = nn.ConvTranspose2d(channels, channels, 4, 2, padding=1)
        self.decoder = mask_decoder(channels, decoder)
        self.apply(_initialize)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # bf16 on CPU is three times faster so

    def published_parts(self):
        """SpeechBrain's `psi_model.ckpt`, where nothing stands before the adapter."""
        return {"psi_model.ckpt": self} if isinstance(self.project, nn.Identity) else {}

    def encode(self, evidence: Evidence) -> Tensor:
        """The map adapted and halved, [B, C, h', w'], before quantisation."""
        feature_map = evidence.features.maps[self.map_index].detach().to(self.down.weight.dtype)
        size = [max(2, self.upsample * side) for side in feature_map.shape[2:]]
        feature_map = F.interpolate(feature_map, size, mode="bilinear", align_corners=False)
        return self.down(self.adapter(self.project(feature_map.contiguous(memory_format=torch.channels_last))))

    def mask_logit(self, codes: Tensor, frames: int, bins: int) -> Tensor:
        """Codes [B, C, h', w'] to the logit of the mask [B, frames, bins], in float32."""
        return resize_map(decode(self.decoder, self.up(codes)), frames, bins)

    def interpret(self, classifier, spectrogram, evidence, target=None):
        target = self.asked_class(evidence, target)
        quantized = self.codebook(self.encode(evidence), target)
        mask = self.mask_logit(quantized.codes, *spectrogram.log_magnitude.shape[1:]).sigmoid()
        if self.threshold is not None:
            mask = (mask > self.threshold).to(mask.dtype)
        return masked(spectrogram, mask, target)

    def loss(self, classifier, spectrogram, evidence, clean=None):
        """Terms "mask", "codebook" and "commitment".

        mask: Bernoulli negative log likelihood of 1[X > energy_threshold max X], mean over the clip's bins;
        X is what the classifier heard, so `clean` is not used. codebook, commitment: mean squared distance of
        a clip's vectors to their codes, whose gradient moves the codes and the adapter respectively.
        """
        encoded = self.encode(evidence)
        quantized = self.codebook(encoded, evidence.prediction)
        heard = spectrogram.log_magnitude.float()
        logit = self.mask_logit(quantized.straight_through, *heard.shape[1:])
        target = (heard > self.energy_threshold * heard.amax(dim=(1, 2), keepdim=True)).float()
        terms = {"mask": F.binary_cross_entropy_with_logits(logit, target, reduction="none").mean(dim=(1, 2))}
        if self.codebook_weight:
            distance = quantized.codes - encoded.detach()
            terms["codebook"] = self.codebook_weight * distance.square().mean(dim=(1, 2, 3))
        if self.commitment_weight:
            distance = encoded - quantized.codes.detach()
            terms["commitment"] = self.commitment_weight * distance.square().mean(dim=(1, 2, 3))
        return terms
