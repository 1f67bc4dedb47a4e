"""What the classifier says when separated parts of a sound are left out: audioLIME.

Haunschmid et al., audioLIME: Listenable Explanations Using Source Separation, 2020 (arXiv 2008.00582). The paper takes
trained separators of music; here the parts are those that a clip's own spectrogram has, of any kind of sound: the
components of a non-negative matrix factorisation, or what is harmonic and what is percussive (Fitzgerald, DAFx 2010).
"""

import warnings

import numpy as np
import torch
from scipy.ndimage import median_filter
from sklearn.decomposition import NMF
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Ridge
from torch import Tensor

from interpreters.gradients import Attribution, ClassScore
from models.classifier import ClassifierInfo
from models.errors import UsageError
from models.frontend import compress, expand

MEDIAN = 31  # frames, and bins, of the filters that tell harmonic from percussive
KERNEL_WIDTH = 0.25  # of LIME's weight, over the cosine distance to the whole sound


class SeparatedParts(Attribution):
    """Coefficients of a ridge regression of f on which parts are there, near sets of parts weighing more (LIME).

    Part k has a share S_k of the linear magnitude of every bin; the shares sum to 1. Every part is cut into segments of
    time, which are present or absent each for itself. The importance of a bin is the sum of the coefficients of the
    parts in it, weighted by their shares.

    Arguments
    ---------
    method: "nmf" or "hpss" (two parts, harmonic and percussive).
    output: what is measured: "probability", "logit" or "log_odds" of the asked class.
    components: parts of "nmf", 2 or more.
    segment_seconds: length of a segment; more than the clip's length keeps parts whole.
    samples: sets of parts, each a pass of the classifier. chunk, seed, quantile: as the base has them.

    Raises UsageError for an argument out of range.
    """

    requires = frozenset()
    methods = ("nmf", "hpss")

    def __init__(
        self,
        info: ClassifierInfo,
        method: str = "nmf",
        output: str = "probability",
        components: int = 6,
        segment_seconds: float = 1.25,
        samples: int = 100,
        chunk: int = 8,
        seed: int = 1234,
        quantile=0.9,
    ):
        super().__init__(info, method, output, samples, chunk, seed, quantile)
        if components < 2 or segment_seconds <= 0:
            raise UsageError(f"components={components} must be 2 or more and segment_seconds={segment_seconds} above 0")
        self.components, self.segment_seconds = components, segment_seconds

    @torch.no_grad()
    def attribute(self, score: ClassScore, log_magnitude: Tensor) -> Tensor:
        magnitude = expand(log_magnitude)  # [1, T, F]
        if not magnitude.any():
            return torch.zeros_like(magnitude)
        shares = torch.from_numpy(self.shares(magnitude[0].cpu().numpy())).to(magnitude)  # [K, T, F]
        segment = self.segments(magnitude.shape[1], score.clip.num_samples).to(magnitude.device)  # [T]
        count = int(segment.max()) + 1
        present = (torch.rand(self.samples, len(shares), count) < 0.5).float()
        present[0] = 1  # the whole sound
        answers = []
        for sets in present.to(magnitude).split(self.chunk):
            kept = torch.einsum("nkt,ktf->ntf", sets[:, :, segment], shares)
            answers.append(score(compress(magnitude * kept)).cpu())
        coefficients = _local_regression(present.flatten(1), torch.cat(answers)).view(len(shares), count)
        return torch.einsum("kt,ktf->tf", coefficients.to(magnitude)[:, segment], shares).unsqueeze(0)

    def shares(self, magnitude: np.ndarray) -> np.ndarray:
        """[K, T, F] share of each part in every bin of a linear magnitude [T, F]; they sum to 1."""
        parts = harmonic_percussive(magnitude) if self.method == "hpss" else factorised(magnitude, self.components)
        total = parts.sum(axis=0)
        return np.where(total > 0, parts / np.maximum(total, np.finfo(parts.dtype).tiny), 1 / len(parts))

    def segments(self, frames: int, num_samples: int) -> Tensor:
        """[frames] whole numbers from 0: the segment of every frame of a clip of that many samples."""
        count = max(1, round(num_samples / self.sample_rate / self.segment_seconds))
        return torch.arange(frames) * min(count, frames) // frames


def factorised(magnitude: np.ndarray, components: int) -> np.ndarray:
    """[K, T, F] the components of X about H W, for a magnitude X [T, F]; always the same from the same clip."""
    components = min(components, *magnitude.shape)
    factors = NMF(components, init="nndsvda", max_iter=200, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # 200 rounds are a budget, not a failure
        activations = factors.fit_transform(magnitude)  # [T, K]
    return activations.T[:, :, None] * factors.components_[:, None, :]


def harmonic_percussive(magnitude: np.ndarray) -> np.ndarray:
    """[2, T, F] what is steady in time and what is broad in frequency, squared as a Wiener filter has it."""
    harmonic = median_filter(magnitude, size=(MEDIAN, 1))
    percussive = median_filter(magnitude, size=(1, MEDIAN))
    return np.stack([harmonic, percussive]) ** 2


def _local_regression(present: Tensor, answers: Tensor) -> Tensor:
    """[P] coefficients of answers [N] on presence [N, P], weighted by LIME's kernel around the whole sound."""
    # the cosine between a set and the whole is the root of the share of parts that are there
    distance = 1 - present.mean(dim=1).sqrt()
    weight = torch.exp(-(distance**2) / (2 * KERNEL_WIDTH**2))
    model = Ridge(alpha=1.0).fit(present.numpy(), answers.numpy(), sample_weight=weight.numpy())
    return torch.from_numpy(model.coef_)
