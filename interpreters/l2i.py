"""L2I, Listen to Interpret: the prediction as a sum over the components of a dictionary of spectra.

Parekh et al., NeurIPS 2022 (arXiv 2202.11479).
"""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from interpreters.base import Interpreter, masked
from interpreters.decoders import MapDecoder
from interpreters.dictionary import learn_dictionary
from interpreters.interpolation import sample_at
from models.classifier import ClassifierInfo, Evidence
from models.errors import UsageError
from models.frontend import Spectrogram


class L2I(Interpreter):
    """Components of a non-negative dictionary W, their activations H over time, and a linear model of the classifier.

    W [F, K] is learned by non-negative matrix factorisation of training frames, X about W H with X the log1p
    magnitude, and then kept (`interpreters.dictionary`). A decoder of the classifier's maps gives H [K, T] >= 0;
    attention over time pools it to z [K], and a linear layer without bias, theta, mimics the classifier from z. Loss of
    a clip (section 3.2):

        reconstruction  w_r mean (X - W H)^2
        fidelity        w_f CE(theta z, f(X))
        sparsity        w_s mean H

    The relevance of component k for the asked class c is theta_ck z_k, divided by the largest absolute one of the
    clip. The mask is the share that the components above `threshold` have in W H, so it is soft, and it multiplies X
    as every other mask here does (section 3.3). A clip without such a component has an empty mask.

    What differs from the authors' code (github.com/jayneelparekh/L2I-code): the decoder takes maps of any number and
    size and clips of any length; softplus instead of ReLU, under which a component once silent would never learn again;
    one linear layer makes the attention of H, theirs a gated network; the weight of fidelity stays.

    Arguments
    ---------
    components: K. width: channels inside the decoder.
    reconstruction, fidelity, sparsity: the weights, 0 or more.
    threshold: of the relevance, in [0, 1).
    frames: how many of each training clip, evenly spaced, the dictionary is learned from.
    dictionary_sparsity: penalty of the activations as the dictionary is learned; 0.8 in the authors' dictionaries.

    Raises UsageError for an argument out of range.
    """

    requires = frozenset({"maps"})
    answers_any_class = True
    trainable = True

    dictionary: Tensor

    def __init__(
        self,
        info: ClassifierInfo,
        components: int = 100,
        width: int = 64,
        reconstruction: float = 10.0,
        fidelity: float = 1.0,
        sparsity: float = 0.8,
        threshold: float = 0.2,
        frames: int = 32,
        dictionary_sparsity: float = 0.0,
    ):
        super().__init__(info)
        self.weights = {"reconstruction": reconstruction, "fidelity": fidelity, "sparsity": sparsity}
        if min(components, width, frames) < 1:
            raise UsageError(f"components={components}, width={width} and frames={frames} must be 1 or more in L2I")
        if min(self.weights.values()) < 0 or not 0 <= threshold < 1:
            raise UsageError(f"{self.weights} must be 0 or more in L2I, and threshold={threshold} in [0, 1)")
        if dictionary_sparsity < 0:
            raise UsageError(f"dictionary_sparsity={dictionary_sparsity} must be 0 or more in L2I")
        self.threshold, self.frames, self.dictionary_sparsity = threshold, frames, dictionary_sparsity
        self.decoder = MapDecoder(info.map_channels, width, components)
        self.attention = nn.Linear(components, 1)
        self.theta = nn.Linear(components, info.num_classes, bias=False)
        # not a number until `fit`, so that a dictionary that was never learned cannot pass for one
        self.register_buffer("dictionary", torch.full((info.n_fft // 2 + 1, components), torch.nan))

    def fit(self, spectrograms: Iterable[Spectrogram]) -> None:
        """Learn W from the training clips, its columns of length 1, always the same from the same clips.

        Raises UsageError for more components than training frames or frequency bins.
        """
        kept = []
        for batch in spectrograms:
            chosen = torch.linspace(0, batch.log_magnitude.shape[1] - 1, self.frames).round().long().unique()
            frames = batch.log_magnitude[:, chosen.to(batch.log_magnitude.device)].flatten(0, 1)
            kept.append(frames[frames.amax(dim=1) > 0].float().cpu())
        self.dictionary.copy_(learn_dictionary(torch.cat(kept), self.dictionary.shape[1], self.dictionary_sparsity))

    def activations(self, evidence: Evidence, frames: int) -> Tensor:
        """H as [B, K, frames], above 0, float32."""
        sequence = self.decoder([feature_map.detach() for feature_map in evidence.features.maps]).float()
        position = (torch.arange(frames, device=sequence.device) + 0.5) / frames
        return F.softplus(sample_at(sequence, position))

    def pool(self, activations: Tensor) -> Tensor:
        """z [B, K]: the mean of H [B, K, T] over time, weighted by attention."""
        weight = self.attention(activations.transpose(1, 2)).softmax(dim=1)  # [B, T, 1]
        return (activations @ weight).squeeze(2)

    def relevance(self, activations: Tensor, target: Tensor) -> Tensor:
        """[B, K] in [-1, 1]: what each component adds to the score of the target [B]."""
        share = self.theta.weight[target] * self.pool(activations)
        return share / share.abs().amax(dim=1, keepdim=True).clamp(min=torch.finfo(share.dtype).tiny)

    def rebuilt(self, activations: Tensor) -> Tensor:
        """(W H) transposed, [B, T, F] float32, for H [B, K, T]."""
        return (activations.transpose(1, 2) @ self.dictionary.T).float()

    def interpret(self, classifier, spectrogram, evidence, target=None):
        target = self.asked_class(evidence, target)
        activations = self.activations(evidence, spectrogram.log_magnitude.shape[1])
        chosen = self.relevance(activations, target) > self.threshold
        part = self.rebuilt(activations * chosen.unsqueeze(2))
        whole = self.rebuilt(activations)
        mask = (part / whole.clamp(min=torch.finfo(whole.dtype).tiny)).clamp(0, 1)
        return masked(spectrogram, mask, target)

    def loss(self, classifier, spectrogram, evidence, clean=None):
        """Terms "reconstruction", "fidelity" and "sparsity"; X is what the classifier heard, so `clean` is not used."""
        heard = spectrogram.log_magnitude.float()
        activations = self.activations(evidence, heard.shape[1])
        rebuilt = activations.transpose(1, 2) @ self.dictionary.T  # [B, T, F]
        logits = self.theta(self.pool(activations)).float()
        terms = {
            "reconstruction": (heard - rebuilt).square().mean(dim=(1, 2)),
            "fidelity": evidence.labels.cross_entropy(logits, evidence.probabilities.detach()),
            "sparsity": activations.mean(dim=(1, 2)),
        }
        return {name: self.weights[name] * term for name, term in terms.items() if self.weights[name]}
