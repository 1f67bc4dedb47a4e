"""Perturbation baselines: what the classifier says when patches of the spectrogram are silenced.

The attribution is captum's (Kokhlikyan et al., arXiv 2009.07896). The patches are a grid of time by frequency, as in
SLIME (Mishra et al., ISMIR 2017); audioLIME (Haunschmid et al., arXiv 2008.00582) takes separated sources instead.
"""

import torch
from captum._utils.models.linear_model import SkLearnRidge
from captum.attr import FeatureAblation, KernelShap, Lime
from captum.attr._core.lime import get_exp_kernel_similarity_function
from torch import Tensor

from interpreters.gradients import Attribution, ClassScore
from models.classifier import ClassifierInfo
from models.errors import UsageError


class Perturbation(Attribution):
    """One perturbation method, chosen by its name; f is the score of the asked class.

    occlusion    f(x) - f(x without the patch), each patch once (Zeiler and Fergus, arXiv 1311.2901)
    kernel_shap  Shapley values by weighted regression over random sets of patches (Lundberg and Lee, arXiv 1705.07874)
    lime         coefficients of a ridge regression over random sets, near ones weighing more (Ribeiro et al., arXiv
                 1602.04938): cosine distance, kernel width 0.25
    surrogate    coefficients of a ridge regression over random sets that all weigh the same. With `bands` 1 and the log
                 odds as output, it ranks segments of time as Bolaños et al. do (arXiv 2506.04391)

    All bins of a patch share its value, so a quantile keeps whole patches, and their area decides how much it keeps.

    Arguments
    ---------
    segment_seconds: length of a patch. bands: patches over frequency, of equal width in mel; 1 keeps frequency whole.
    samples: classifier passes a clip for kernel_shap, lime and surrogate; occlusion takes one a patch.

    Raises UsageError for an argument out of range.
    """

    requires = frozenset()
    methods = ("occlusion", "kernel_shap", "lime", "surrogate")

    def __init__(
        self,
        info: ClassifierInfo,
        method: str = "occlusion",
        output: str = "probability",
        segment_seconds: float = 0.625,
        bands: int = 4,
        samples: int = 40,
        chunk: int = 8,
        seed: int = 1234,
        quantile=0.9,
    ):
        super().__init__(info, method, output, samples, chunk, seed, quantile)
        if segment_seconds <= 0 or bands < 1:
            raise UsageError(f"segment_seconds={segment_seconds} must be above 0 and bands={bands} at least 1")
        self.segment_seconds, self.bands = segment_seconds, bands

    def patches(self, frames: int, bins: int, num_samples: int) -> Tensor:
        """[1, T, F] whole numbers from 0: the patch of every bin of a clip of that many samples."""
        fewest = 1 if self.bands > 1 else 2  # a single patch has nothing to be compared with
        rows = max(fewest, round(num_samples / self.sample_rate / self.segment_seconds))
        row = torch.arange(frames) * rows // frames
        column = (self.mel_position(bins, self.sample_rate / 2) * self.bands).long().clamp(max=self.bands - 1)
        # counted anew, for a short clip may have fewer frames than rows and low bands may hold no bin
        return torch.unique(row[:, None] * self.bands + column, return_inverse=True)[1].unsqueeze(0)

    def attribute(self, score: ClassScore, log_magnitude: Tensor) -> Tensor:
        _, frames, bins = log_magnitude.shape
        patches = self.patches(frames, bins, score.clip.num_samples).to(log_magnitude.device)
        options = {"feature_mask": patches, "perturbations_per_eval": self.chunk}
        if self.method == "occlusion":
            return FeatureAblation(score).attribute(log_magnitude, **options)
        if self.method == "kernel_shap":
            explainer = KernelShap(score)
        else:
            near = get_exp_kernel_similarity_function("cosine", 0.25) if self.method == "lime" else _equally
            explainer = Lime(score, SkLearnRidge(alpha=1.0), near)
        return explainer.attribute(log_magnitude, n_samples=self.samples, **options)


def _equally(*_: object, **__: object) -> float:
    """The weight of a random set of patches in a surrogate that prefers none."""
    return 1.0
