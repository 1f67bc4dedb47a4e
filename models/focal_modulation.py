"""The network of FocalNet (Yang et al., Focal Modulation Networks, NeurIPS 2022), in the form that it is published in.

It computes what `transformers.FocalNetBackbone` computes, to rounding, from tensors of the same names and with the same
random start; a test compares the two. It stands here because importing that class alone takes three seconds of CPU,
more than all else that explaining a sound needs. What it leaves out (layer scale, post-norm, masked images) no size of
`models.focalnet` uses.
"""

from collections.abc import Callable
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from models.convolution import DepthwiseConv2d, PointwiseConv2d

NORM_EPS = 1e-5
WEIGHT_STD = 0.02
LEVELS, WINDOW, WINDOW_STEP = 2, 3, 2
MLP_RATIO = 4


class PatchProjection(nn.Module):
    """Patches of an image [B, C, H, W], zero-padded to whole ones, as [B, h w, D], and their grid (h, w)."""

    def __init__(self, channels: int, width: int, patch: int, normalize: bool):
        super().__init__()
        self.patch = patch
        self.projection = nn.Conv2d(channels, width, kernel_size=patch, stride=patch)
        self.norm = nn.LayerNorm(width, eps=NORM_EPS) if normalize else None

    def forward(self, image: Tensor) -> tuple[Tensor, tuple[int, int]]:
        height, width = image.shape[2:]
        projected = self.projection(nn.functional.pad(image, (0, -width % self.patch, 0, -height % self.patch)))
        grid = (projected.shape[2], projected.shape[3])
        patches = projected.flatten(2).transpose(1, 2)
        return (patches if self.norm is None else self.norm(patches)), grid


class Embeddings(nn.Module):
    """The stem: patches of 4 x 4 pixels, normalised."""

    def __init__(self, width: int):
        super().__init__()
        self.patch_embeddings = PatchProjection(3, width, patch=4, normalize=False)
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)

    def forward(self, image: Tensor) -> tuple[Tensor, tuple[int, int]]:
        patches, grid = self.patch_embeddings(image)
        return self.norm(patches), grid


class GELU(nn.Module):
    """GELU of what nothing else uses: where no gradient is wanted, it takes the memory of its input."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.gelu(x) if torch.is_grad_enabled() else torch.ops.aten.gelu_(x)


class Modulation(nn.Module):
    """Every position's query times what gated contexts of growing size, and the global one, say about it.

    [B, H, W, C] to [B, H, W, C]; the output of `projection_context` [B, C, H, W] is the modulator of the paper.
    """

    def __init__(self, width: int):
        super().__init__()
        self.projection_in = nn.Linear(width, 2 * width + LEVELS + 1)
        self.projection_context = PointwiseConv2d(width, width)
        self.activation = GELU()
        self.projection_out = nn.Linear(width, width)
        self.focal_layers = nn.ModuleList()
        for level in range(LEVELS):
            window = WINDOW + WINDOW_STEP * level
            depthwise = nn.Conv2d(width, width, window, groups=width, padding=window // 2, bias=False)
            if window > WINDOW:
                depthwise = DepthwiseConv2d.of(depthwise)
            self.focal_layers.append(nn.Sequential(depthwise, GELU()))

    def forward(self, x: Tensor) -> Tensor:
        query, context, gates = self._projected(x)
        contexts = []
        for layer in self.focal_layers:
            context = layer(context)
            contexts.append(context)
        # before any is gated: the mean's gradient, channels first, is then added to one that lies as the contexts do
        contexts.append(self.activation(context.mean((2, 3), keepdim=True)))
        gathered = contexts[0] * gates[:, :1]
        for level, context in enumerate(contexts[1:], start=1):
            gathered.addcmul_(context, gates[:, level : level + 1])
        modulated = query * self.projection_context(gathered)
        return self.projection_out(modulated.permute(0, 2, 3, 1).contiguous())

    def _projected(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Query, context and gates of x [B, H, W, C], each [B, *, H, W].

        On a CPU each by a product of its own, so that they lie channels last without a copy: depthwise convolutions
        are faster so, and modulation takes 30 % less time without a gradient, 15 % less with one.
        """
        width = x.shape[-1]
        sizes = [width, width, LEVELS + 1]
        if x.is_cuda:
            query, context, gates = self.projection_in(x).permute(0, 3, 1, 2).contiguous().split(sizes, dim=1)
            return query, context, gates
        weights, biases = self.projection_in.weight.split(sizes), self.projection_in.bias.split(sizes)
        parts = [nn.functional.linear(x, weight, bias) for weight, bias in zip(weights, biases, strict=True)]
        query, context, gates = (part.permute(0, 3, 1, 2) for part in parts)
        return query, context, gates


class MLP(nn.Module):
    """Two linear layers with GELU between them."""

    def __init__(self, width: int):
        super().__init__()
        self.fc1 = nn.Linear(width, MLP_RATIO * width)
        self.activation = GELU()
        self.fc2 = nn.Linear(MLP_RATIO * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.activation(self.fc1(x)))


class DropPath(nn.Module):
    """In training, drop a clip's branch with a probability and scale the others up (Huang et al., ECCV 2016)."""

    def __init__(self, probability: float):
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor, branch: Callable[[Tensor], Tensor]) -> Tensor:
        """x [B, L, C] plus what the branch makes of it; on a CPU the branch of dropped clips is not computed."""
        if not self.training or self.probability == 0:
            return x + branch(x)
        kept = 1 - self.probability
        # drawn in the branch's precision
        precision = torch.get_autocast_dtype(x.device.type) if torch.is_autocast_enabled(x.device.type) else x.dtype
        stays = torch.floor(torch.rand((len(x), 1, 1), dtype=precision, device=x.device) + kept)
        if x.device.type == "cpu":
            rows = stays.flatten().nonzero().flatten()
            # where no clip stays, the branch's weights get a gradient of 0 all the same, as optimisers expect
            if 0 < len(rows) < len(x):
                return x.index_add(0, rows, (branch(x[rows]) / kept).to(x.dtype))
        return x + branch(x).div(kept) * stays


class Layer(nn.Module):
    """Modulation, then an MLP, each on normalised patches [B, h w, C] and added to them."""

    def __init__(self, width: int, drop_path: float):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=NORM_EPS)
        self.modulation = Modulation(width)
        self.drop_path = DropPath(drop_path)
        self.norm2 = nn.LayerNorm(width, eps=NORM_EPS)
        self.mlp = MLP(width)

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        x = self.drop_path(x, partial(self.modulated, grid=grid))
        return self.drop_path(x, self.transformed)

    def modulated(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """What modulation adds to x."""
        return self.modulation(self.norm1(x).unflatten(1, grid)).flatten(1, 2)

    def transformed(self, x: Tensor) -> Tensor:
        """What the MLP adds to x."""
        return self.mlp(self.norm2(x))


class Stage(nn.Module):
    """Layers of one width and, except in the last stage, a step to twice the width at half the resolution."""

    def __init__(self, width: int, drop_paths: list[float], last: bool):
        super().__init__()
        self.layers = nn.ModuleList([Layer(width, drop_path) for drop_path in drop_paths])
        self.downsample = None if last else PatchProjection(width, 2 * width, patch=2, normalize=True)

    def forward(self, x: Tensor, grid: tuple[int, int]) -> tuple[Tensor, tuple[int, int]]:
        for layer in self.layers:
            x = layer(x, grid)
        return (x, grid) if self.downsample is None else self.downsample(_as_map(x, grid))


class Encoder(nn.Module):
    """Four stages; the stochastic depth rate grows evenly from 0 to that of the last layer."""

    def __init__(self, width: int, depths: list[int], drop_path: float):
        super().__init__()
        rates = torch.linspace(0, drop_path, sum(depths), device="cpu").tolist()
        self.stages = nn.ModuleList()
        for number, depth in enumerate(depths):
            begun = sum(depths[:number])
            last = number == len(depths) - 1
            self.stages.append(Stage(width * 2**number, rates[begun : begun + depth], last))

    def forward(self, x: Tensor, grid: tuple[int, int]) -> list[Tensor]:
        maps = []
        for stage in self.stages:
            x, grid = stage(x, grid)
            maps.append(x.unflatten(1, grid).permute(0, 3, 1, 2))
        return maps


class FocalModel(nn.Module):
    """Stem and encoder, with the last norm that published weights hold and no feature map passes."""

    def __init__(self, width: int, depths: list[int], drop_path: float):
        super().__init__()
        self.embeddings = Embeddings(width)
        self.encoder = Encoder(width, depths, drop_path)
        self.layernorm = nn.LayerNorm(width * 2 ** (len(depths) - 1), eps=NORM_EPS)


class FocalNetwork(nn.Module):
    """Image [B, 3, H, W] to the maps [B, C, h, w] of the four stages, with random weights."""

    def __init__(self, width: int, depths: list[int], drop_path: float):
        super().__init__()
        self.focalnet = FocalModel(width, depths, drop_path)
        self.apply(_initialise)

    def modulations(self) -> list[Modulation]:
        """The modulation of every layer, from the first to the last, whose map explains the network's decision."""
        modulations = []
        for stage in self.focalnet.encoder.stages:
            for layer in cast(Stage, stage).layers:
                modulations.append(cast(Layer, layer).modulation)
        return modulations

    def forward(self, image: Tensor) -> list[Tensor]:
        return self.focalnet.encoder(*self.focalnet.embeddings(image))


def _as_map(patches: Tensor, grid: tuple[int, int]) -> Tensor:
    """[B, h w, C] to [B, C, h, w]."""
    return patches.transpose(1, 2).unflatten(2, grid)


def _initialise(module: nn.Module) -> None:
    """The random start of the published networks: normal weights of deviation 0.02, biases of 0."""
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.normal_(module.weight, std=WEIGHT_STD)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
