"""L2I, Listen to Interpret: the prediction as a sum over the components of a dictionary of spectra.

Parekh et al., NeurIPS 2022 (arXiv 2202.11479).
"""

from collections.abc import Callable, Iterable
from functools import partial

import torch
import torch.nn.functional as F
from speechbrain.lobes.models.L2I import NMFDecoderAudio, Theta
from torch import Tensor, nn

from interpreters.base import Interpreter, masked
from interpreters.decoders import FITS, MapDecoder
from interpreters.dictionary import EncoderDictionary, learn_dictionary
from interpreters.interpolation import stretch
from models.classifier import ClassifierInfo, Evidence
from models.errors import UsageError
from models.frontend import Spectrogram

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"softplus": F.softplus, "relu": F.relu}


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

    SpeechBrain's networks, with which the L-MAC and LMAC-TD papers compare, are `decoder` PaperActivationDecoder,
    `attention_frames` 431, `activation` "relu" and `dictionary` EncoderDictionary; for the Conv2d of PIQ's paper,
    Conv2dActivationDecoder and 417. Its fidelity is a mean over classes, too: the weight of 1 there is 1 / classes
    here.

    Arguments
    ---------
    components: K. width: channels inside the decoder.
    decoder: called with the maps' channels and `out_channels` K, returns the module that takes the maps and gives
        [B, K, h]; None: a `MapDecoder` of `width` channels.
    attention_frames: None for the softmax over time, or the number of frames that have a weight each, without a
        softmax. H of a clip of another length is stretched to as many before it is pooled.
    activation: "softplus" or "relu", of what the decoder gives.
    dictionary: called with the bins F and the components K, returns the module whose `learn` makes W of the training
        clips; None: a factorisation of their `frames` under `dictionary_sparsity`.
    reconstruction, fidelity, sparsity: the weights, 0 or more.
    threshold: of the relevance, in [0, 1).
    fit: how the decoder's steps become frames. "stretch": they are resized. "crop": each is the frame of its number,
        and later frames count in no term and have an empty mask.
    temperature: what f's logits are divided by before the softmax that theta z mimics; above 0.
    frames: how many of each training clip, evenly spaced, the dictionary is learned from.
    dictionary_sparsity: penalty of the activations as the dictionary is learned; 0.8 in the authors' dictionaries.

    Raises UsageError for an argument out of range.
    """

    requires = frozenset({"maps"})
    answers_any_class = True
    trainable = True
    training_settings = frozenset(
        {"reconstruction", "fidelity", "temperature", "sparsity", "frames", "dictionary_sparsity"}
    )

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
        decoder: Callable[..., nn.Module] | None = None,
        attention_frames: int | None = None,
        activation: str = "softplus",
        dictionary: Callable[[int, int], EncoderDictionary] | None = None,
        fit: str = "stretch",
        temperature: float = 1.0,
    ):
        super().__init__(info)
        self.weights = {"reconstruction": reconstruction, "fidelity": fidelity, "sparsity": sparsity}
        if min(components, width, frames) < 1:
            raise UsageError(f"components={components}, width={width} and frames={frames} must be 1 or more in L2I")
        if min(self.weights.values()) < 0 or not 0 <= threshold < 1:
            raise UsageError(f"{self.weights} must be 0 or more in L2I, and threshold={threshold} in [0, 1)")
        if dictionary_sparsity < 0:
            raise UsageError(f"dictionary_sparsity={dictionary_sparsity} must be 0 or more in L2I")
        if activation not in ACTIVATIONS:
            raise UsageError(f"activation={activation!r} must be one of {', '.join(ACTIVATIONS)} in L2I")
        if attention_frames is not None and attention_frames < 1:
            raise UsageError(f"attention_frames={attention_frames} must be 1 or more, or null for a softmax, in L2I")
        if fit not in FITS or temperature <= 0:
            raise UsageError(
                f"fit={fit!r} must be one of {', '.join(FITS)}, and temperature={temperature} above 0, in L2I"
            )
        self.threshold, self.frames, self.dictionary_sparsity = threshold, frames, dictionary_sparsity
        self.crops, self.temperature = fit == "crop", temperature
        self.attention_frames, self.activation, self.make_dictionary = attention_frames, activation, dictionary
        make_decoder = decoder or partial(MapDecoder, width=width)
        self.decoder = make_decoder(info.map_channels, out_channels=components)
        if attention_frames is None:
            self.attention = nn.Linear(components, 1)
        else:
            self.attention = nn.Linear(attention_frames, 1, bias=False)
        self.theta = nn.Linear(components, info.num_classes, bias=False)
        # not a number until `fit`, so that a dictionary that was never learned cannot pass for one
        self.register_buffer("dictionary", torch.full((info.n_fft // 2 + 1, components), torch.nan))

    def fit(self, spectrograms: Iterable[Spectrogram]) -> None:
        """Learn W from the training clips, always the same from the same clips. Factorised columns have length 1.

        Raises UsageError for a factorisation into more components than training frames or frequency bins, and as the
        module that `dictionary` makes.
        """
        if self.make_dictionary is not None:
            learner = self.make_dictionary(*self.dictionary.shape).to(self.dictionary.device)
            self.dictionary.copy_(learner.learn(spectrograms))
            return
        kept = []
        for batch in spectrograms:
            chosen = torch.linspace(0, batch.log_magnitude.shape[1] - 1, self.frames).round().long().unique()
            frames = batch.log_magnitude[:, chosen.to(batch.log_magnitude.device)].flatten(0, 1)
            kept.append(frames[frames.amax(dim=1) > 0].float().cpu())
        self.dictionary.copy_(learn_dictionary(torch.cat(kept), self.dictionary.shape[1], self.dictionary_sparsity))

    def published_parts(self):
        """SpeechBrain's `psi_model.ckpt`, `theta.ckpt` and `nmf_decoder.ckpt`, where the networks are its own.

        The last two are SpeechBrain's modules around this interpreter's own weights: what fills them fills these.
        """
        is_published = (
            getattr(self.decoder, "takes_maps_as_they_are", False)
            and self.attention_frames is not None
            and self.activation == "relu"
        )
        if not is_published:
            return {}
        bins, components = self.dictionary.shape
        mimic = Theta(components, self.attention_frames, self.theta.out_features)
        mimic.hard_att = self.attention
        mimic.classifier[0] = self.theta
        dictionary = NMFDecoderAudio(components, bins)
        dictionary.W = nn.Parameter(self.dictionary, requires_grad=False)
        return {"psi_model.ckpt": self.decoder.psi, "theta.ckpt": mimic, "nmf_decoder.ckpt": dictionary}

    def class_layers(self):
        """Theta: a released one mimics a classifier whose classes are numbered otherwise."""
        return (self.theta,)

    def activations(self, evidence: Evidence, frames: int) -> Tensor:
        """H as [B, K, frames], 0 or more, float32; of a decoder that is cropped, with no more frames than it gives."""
        sequence = self.decoder([feature_map.detach() for feature_map in evidence.features.maps]).float()
        sequence = sequence[:, :, :frames] if self.crops else stretch(sequence, frames)
        return ACTIVATIONS[self.activation](sequence)

    def pool(self, activations: Tensor) -> Tensor:
        """z [B, K]: the sum of H [B, K, T] over time, weighted by attention."""
        if self.attention_frames is not None:
            return self.attention(stretch(activations, self.attention_frames)).squeeze(2)
        weight = self.attention(activations.transpose(1, 2)).softmax(dim=1)  # [B, T, 1]
        return (activations @ weight).squeeze(2)

    def relevance(self, activations: Tensor, target: Tensor) -> Tensor:
        """[B, K] in [-1, 1]: what each component adds to the score of the target [B]."""
        share = self.theta.weight[target] * self.pool(activations)
        return share / share.abs().amax(dim=1, keepdim=True).clamp(min=torch.finfo(share.dtype).tiny)

    def rebuilt(self, activations: Tensor) -> Tensor:
        """(W H) transposed, [B, T, F] float32, for H [B, K, T]."""
        spectra = self.dictionary.clamp(min=0)  # a released W has numbers below 0, which count as 0
        return (activations.transpose(1, 2) @ spectra.T).float()

    def interpret(self, classifier, spectrogram, evidence, target=None):
        target = self.asked_class(evidence, target)
        frames = spectrogram.log_magnitude.shape[1]
        activations = self.activations(evidence, frames)
        chosen = self.relevance(activations, target) > self.threshold
        part = self.rebuilt(activations * chosen.unsqueeze(2))
        whole = self.rebuilt(activations)
        mask = (part / whole.clamp(min=torch.finfo(whole.dtype).tiny)).clamp(0, 1)
        return masked(spectrogram, F.pad(mask, (0, 0, 0, frames - mask.shape[1])), target)

    def loss(self, classifier, spectrogram, evidence, clean=None):
        """Terms "reconstruction", "fidelity" and "sparsity"; X is what the classifier heard, so `clean` is not used."""
        heard = spectrogram.log_magnitude.float()
        activations = self.activations(evidence, heard.shape[1])
        rebuilt = self.rebuilt(activations)
        logits = self.theta(self.pool(activations)).float()
        answer = evidence.labels.probabilities(evidence.logits.detach() / self.temperature)
        terms = {
            "reconstruction": (heard[:, : rebuilt.shape[1]] - rebuilt).square().mean(dim=(1, 2)),
            "fidelity": evidence.labels.cross_entropy(logits, answer),
            "sparsity": activations.mean(dim=(1, 2)),
        }
        return {name: self.weights[name] * term for name, term in terms.items() if self.weights[name]}
