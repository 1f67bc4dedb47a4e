"""Gradient baselines: the bins to which the score of a class is sensitive.

The input is the log1p magnitude. A reference test holds every method against captum (Kokhlikyan et al., arXiv
2009.07896), with the same random draws; Grad-CAM and guided gradients where captum applies, which takes a module's
output as [B, C, h, w], which a transformer's tokens are not, and guides only `nn.ReLU` modules.
"""

from abc import abstractmethod
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from interpreters.activation import seen_as, source_of, weighted_channels
from interpreters.interpolation import resize_map, sample_at
from interpreters.maps import MapInterpreter, clip_seed
from models.classifier import AudioClassifier, ClassifierInfo, Evidence
from models.errors import UsageError
from models.frontend import Spectrogram

METHODS = (
    "gradient",
    "input_x_gradient",
    "integrated_gradients",
    "smoothgrad",
    "gradient_shap",
    "grad_cam",
    "guided_grad_cam",
)
DRAWN_TOGETHER = 4  # noisy copies of smoothgrad, so that a seed's draws do not depend on `chunk`
OUTPUTS = ("logit", "probability", "log_odds")
RELUS = {F.relu, F.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_}


class ClassScore(nn.Module):
    """A classifier as a function, as captum wants it too: variants of one clip in, one number for the class out.

    classifier: frozen. clip: a Spectrogram of one clip, which lends its phase. target: index of the class.
    output: "logit", "probability" or "log_odds", log(p / (1 - p)).
    """

    def __init__(self, classifier: AudioClassifier, clip: Spectrogram, target: int, output: str):
        super().__init__()
        self.classifier, self.clip, self.target, self.output = classifier, clip, target, output

    def evidence(self, log_magnitude: Tensor) -> Evidence:
        """What the classifier says of [N, T, F], none of it negative."""
        phase = self.clip.phase.expand_as(log_magnitude)
        return self.classifier(replace(self.clip, log_magnitude=log_magnitude, phase=phase))

    def of(self, evidence: Evidence) -> Tensor:
        """[N] the number that is explained."""
        if self.output == "probability":
            return evidence.probabilities[:, self.target]
        if self.output == "logit":
            return evidence.logits.float()[:, self.target]
        target = torch.full((len(evidence.logits),), self.target, device=evidence.logits.device)
        return evidence.log_odds(target)

    def forward(self, log_magnitude: Tensor) -> Tensor:
        """[N, T, F] to [N]."""
        return self.of(self.evidence(log_magnitude))


def slopes(score: Callable[[Tensor], Tensor], variants: Tensor) -> Tensor:
    """The gradient [N, T, F] of every variant's score by its log1p magnitude [N, T, F]."""
    variants = variants.detach().requires_grad_()
    (slope,) = torch.autograd.grad(score(variants).sum(), variants)
    return slope


@contextmanager
def seeded(seed: int, device: torch.device):
    """Within, torch and numpy draw from this seed; afterwards as if nothing had been drawn. captum uses both."""
    before = np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        try:
            yield
        finally:
            np.random.set_state(before)  # noqa: NPY002


class Attribution(MapInterpreter):
    """Base of the methods that question the classifier about one clip after another; a subclass has `attribute`.

    Clips never meet in a batch, and random draws follow from the seed and the clip, so a clip has the same map in any
    company. What a method asks about a clip passes the classifier `chunk` variants at a time.

    Arguments
    ---------
    method: one of the subclass's. output: what is explained, one of `OUTPUTS` of the asked class.
    samples, chunk: 1 or more. seed: a whole number. quantile: as the base has it.

    Raises UsageError for anything else.
    """

    requires = frozenset({"gradient"})
    answers_any_class = True
    methods: tuple[str, ...] = ()

    def __init__(self, info: ClassifierInfo, method: str, output: str, samples: int, chunk: int, seed: int, quantile):
        super().__init__(info, quantile)
        for name, value, allowed in (("method", method, self.methods), ("output", output, OUTPUTS)):
            if value not in allowed:
                raise UsageError(f"{name}={value!r} must be one of {', '.join(allowed)}")
        if samples < 1 or chunk < 1:
            raise UsageError(f"samples={samples} and chunk={chunk} must be 1 or more")
        self.method, self.output, self.samples, self.chunk, self.seed = method, output, samples, chunk, seed
        self.sample_rate = info.sample_rate

    @abstractmethod
    def attribute(self, score: ClassScore, log_magnitude: Tensor) -> Tensor:
        """The importance [1, T, F] of the bins of one clip's log1p magnitude [1, T, F]."""

    def importance(self, classifier, spectrogram, evidence, target=None):
        maps = []
        for number, class_index in enumerate(self.asked_class(evidence, target).tolist()):
            clip = spectrogram[number : number + 1]
            score = ClassScore(classifier, clip, class_index, self.output)
            log_magnitude = clip.log_magnitude.detach().clone()
            with seeded(clip_seed(log_magnitude[0], self.seed), log_magnitude.device):
                maps.append(self.attribute(score, log_magnitude).detach().float())
        return torch.cat(maps)

    def mel_position(self, bins: int, top: float) -> Tensor:
        """[F] where the bins lie on a mel axis, from 0 at 0 Hz to 1 at `top` Hz (O'Shaughnessy's formula)."""
        hertz = torch.linspace(0, self.sample_rate / 2, bins)
        return torch.log(1 + hertz / 700) / np.log(1 + top / 700)


class Gradient(Attribution):
    """One gradient method, chosen by its name; f is the score of the asked class, x the log1p magnitude.

    gradient              |df/dx| (Simonyan et al., arXiv 1312.6034)
    input_x_gradient      x df/dx (Shrikumar et al., arXiv 1605.01713)
    integrated_gradients  x times the mean of df/dx on the straight way from silence (Sundararajan et al., arXiv
                          1703.01365); its sum over bins tends to f(x) - f(silence) as `samples` grows
    smoothgrad            |mean of df/dx over noisy x| (Smilkov et al., arXiv 1706.03825)
    gradient_shap         x times the mean of df/dx over noisy x at random points of that way (Lundberg and Lee,
                          arXiv 1705.07874; Erion et al., arXiv 1906.10670)
    grad_cam              ReLU of a feature map's channels, weighted by their mean gradient (Selvaraju et al., arXiv
                          1610.02391)
    guided_grad_cam       that, times the gradient that passes ReLUs only where it is positive (ibid.); other
                          activations are left as they are

    Arguments
    ---------
    samples: steps of integrated_gradients, noisy copies of smoothgrad and gradient_shap.
    noise: standard deviation of their noise, relative to the clip's range of log1p magnitude.
    map_index: which of `Features.maps` Grad-CAM takes; -1 is the coarsest.

    Raises UsageError for an argument out of range and for the old name "saliency" of "gradient"; at the first clip, for
    Grad-CAM on a map that does not lead to the logits and for guided_grad_cam on a network without ReLU.
    """

    methods = METHODS

    def __init__(
        self,
        info: ClassifierInfo,
        method: str = "gradient",
        output: str = "logit",
        samples: int = 12,
        noise: float = 0.15,
        map_index: int = -1,
        chunk: int = 12,
        seed: int = 1234,
        quantile=0.9,
    ):
        if method == "saliency":
            raise UsageError("method='saliency' is called 'gradient' now: write method: gradient")
        super().__init__(info, method, output, samples, chunk, seed, quantile)
        count = len(info.map_channels)
        if method.endswith("grad_cam") and not -count <= map_index < count:
            raise UsageError(f"map_index={map_index} does not exist: this classifier has {count} feature maps")
        if noise < 0:
            raise UsageError(f"noise={noise} must be 0 or more")
        self.noise, self.map_index, self.mel_top = noise, map_index, info.mel_top

    @torch.enable_grad()
    def attribute(self, score, log_magnitude):
        x = log_magnitude
        match self.method:
            case "gradient":
                return slopes(score, x).abs()
            case "input_x_gradient":
                return x * slopes(score, x)
            case "integrated_gradients":
                return self.integrated_gradients(score, x)
            case "smoothgrad":
                return self.smoothgrad(score, x)
            case "gradient_shap":
                return self.gradient_shap(score, x)
            case "grad_cam":
                return self.grad_cam(score, x)
        with _Guide() as guide:
            guided = slopes(score, x)
        if not guide.relus:
            raise UsageError("guided_grad_cam needs a classifier with ReLUs, and this one has none: use grad_cam")
        return guided * self.grad_cam(score, x)

    def integrated_gradients(self, score: ClassScore, x: Tensor) -> Tensor:
        """[1, T, F], at the shares of x and with the weights that Gauss and Legendre choose for an integral."""
        places, weights = np.polynomial.legendre.leggauss(self.samples)  # on the way from -1 to 1
        share = torch.from_numpy((1 + places) / 2).to(x)[:, None, None]
        weight = torch.from_numpy(weights / 2).to(x)[:, None, None]
        return x * self.weighted_slopes(score, share * x, weight)

    def smoothgrad(self, score: ClassScore, x: Tensor) -> Tensor:
        """[1, T, F], not negative. A bin that noise made negative is heard as 0, and has no slope."""
        counts = [min(DRAWN_TOGETHER, self.samples - drawn) for drawn in range(0, self.samples, DRAWN_TOGETHER)]
        noisy = torch.cat([self.noisy(x, count) for count in counts])
        weight = (noisy >= 0) * (1 / self.samples)
        return self.weighted_slopes(score, noisy.clamp_(min=0), weight).abs()

    def gradient_shap(self, score: ClassScore, x: Tensor) -> Tensor:
        """[1, T, F], the mean over noisy copies of x, each at a share of itself that is drawn from [0, 1]."""
        noisy = self.noisy(x, self.samples).clamp_(min=0)
        share = torch.from_numpy(np.random.uniform(size=self.samples)).to(x)[:, None, None]  # noqa: NPY002
        return self.weighted_slopes(score, share * noisy, noisy) / self.samples

    def noisy(self, x: Tensor, count: int) -> Tensor:
        """[count, T, F] copies of x [1, T, F], each with noise of its own."""
        deviation = self.noise * (x.max() - x.min()).item()
        noise = torch.randn(count, *x.shape[1:], dtype=x.dtype, device=x.device)
        return noise.mul_(deviation).add_(x)

    def weighted_slopes(self, score: ClassScore, variants: Tensor, weights: Tensor) -> Tensor:
        """[1, T, F], the sum of the slopes of variants [N, T, F], each times its weights [N, T, F] or [N, 1, 1]."""
        total = torch.zeros_like(variants[:1])
        for some, their_weights in zip(variants.split(self.chunk), weights.split(self.chunk), strict=True):
            for slope, weight in zip(slopes(score, some), their_weights, strict=True):
                total.addcmul_(slope, weight)
        return total

    def grad_cam(self, score: ClassScore, log_magnitude: Tensor) -> Tensor:
        """[1, T, F], not negative."""
        evidence = score.evidence(log_magnitude.detach().requires_grad_())
        feature_map = evidence.features.leading_maps[self.map_index]
        source = source_of(feature_map)
        slope = None
        if source.requires_grad:
            (slope,) = torch.autograd.grad(score.of(evidence).sum(), source, allow_unused=True)
        if slope is None:
            raise UsageError(
                f"Grad-CAM needs a feature map that leads to the logits, and map {self.map_index} of this classifier "
                "is a detached or copied one: choose another map_index"
            )
        cam = weighted_channels(feature_map, seen_as(feature_map, slope))
        cam = evidence.features.joined(cam).relu().detach()
        frames, bins = log_magnitude.shape[1:]
        if self.mel_top is None:
            return resize_map(cam, frames, bins)
        return sample_at(resize_map(cam, frames, cam.shape[3]), self.mel_position(bins, self.mel_top).to(cam.device))


class _Guided(torch.autograd.Function):
    """ReLU whose backward pass also drops negative gradients (Springenberg et al., arXiv 1412.6806)."""

    @staticmethod
    def forward(ctx, x):
        y = x.clamp(min=0)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, gradient):
        (y,) = ctx.saved_tensors
        return gradient.clamp(min=0) * (y > 0)


class _Guide(TorchFunctionMode):
    """Within, every ReLU is guided, a module's or a function's; nothing is left on the network afterwards."""

    relus = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in RELUS:
            self.relus += 1
            return _Guided.apply(args[0])
        return func(*args, **(kwargs or {}))
