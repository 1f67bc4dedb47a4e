"""L-MAC: a mask on the STFT, decoded from the classifier's feature maps.

Paissan, Ravanelli and Subakan, Listenable Maps for Audio Classifiers, ICML 2024 (arXiv 2403.13086).
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from interpreters.base import Interpretation, Interpreter, masked
from interpreters.decoders import PaperDecoder
from interpreters.masking import checked_weights, masking_terms
from models.classifier import AudioClassifier, ClassifierInfo, Evidence
from models.errors import UsageError
from models.frontend import Spectrogram


class LMAC(Interpreter):
    """A decoder's mask M = sigmoid(logit), trained so that what it keeps decides as the whole, the rest not.

    Loss per clip, c the predicted class, X the log1p magnitude (section 2.1):

        inside      w_in CE(f(M X), c)
        outside   - w_out CE(f((1 - M) X), c)
        sparsity    w_l1 mean |M|
        smoothness  w_tv (sum of |differences of M| in time and in frequency) / (T F)

    As published, `outside` has no lower bound but the range of the classifier's logits. `outside_limit` gives it one.

    Fine-tuning for listening is a second training that starts from the first one's weights with `guidance`
    above 0: a clip whose M X correlates with the clean X (cosine over [T, F]) by at least `min_correlation`
    swaps its sparsity term for

        guidance    w_g BCE(M, 1[X >= energy_threshold max X])

    Arguments
    ---------
    decoder: called with the maps' channels, returns the module that takes the maps and the log1p magnitude
        [B, T, F] and gives logits [B, T, F].
    inside, outside, sparsity, smoothness, guidance: the weights; a term of weight 0 is not computed.
    outside_limit: largest CE of the residual part that lowers the loss, in nats, above 0; None: none, as published.
        At 4 the class has kept a probability of 0.02.
    min_correlation: in [0, 1]; the listening study also used 0.7, and a guidance of 16.
    energy_threshold: share of the clip's largest log1p magnitude, in [0, 1].

    Raises UsageError for a negative weight or a share outside [0, 1].
    """

    requires = frozenset({"maps"})
    trainable = True
    training_settings = frozenset(
        {
            "inside",
            "outside",
            "outside_limit",
            "sparsity",
            "smoothness",
            "guidance",
            "min_correlation",
            "energy_threshold",
        }
    )

    def __init__(
        self,
        info: ClassifierInfo,
        decoder: Callable[[tuple[int, ...]], nn.Module],
        inside: float = 4.0,
        outside: float = 0.2,
        sparsity: float = 0.4,
        smoothness: float = 0.0,
        guidance: float = 0.0,
        min_correlation: float = 0.6,
        energy_threshold: float = 0.35,
        outside_limit: float | None = None,
    ):
        super().__init__(info)
        terms = {"sparsity": sparsity, "smoothness": smoothness, "guidance": guidance}
        self.weights = checked_weights("L-MAC", inside=inside, outside=outside, **terms)
        for name, share in (("min_correlation", min_correlation), ("energy_threshold", energy_threshold)):
            if not 0 <= share <= 1:
                raise UsageError(f"{name}={share} must be in [0, 1] in L-MAC")
        if outside_limit is not None and outside_limit <= 0:
            raise UsageError(f"outside_limit={outside_limit} must be above 0, or null for none, in L-MAC")
        self.outside_limit = outside_limit
        self.min_correlation, self.energy_threshold = min_correlation, energy_threshold
        self.decoder = decoder(info.map_channels)

    def published_parts(self):
        """SpeechBrain's `psi_model.ckpt`, where the decoder is the paper's and the maps have its channels."""
        is_published = isinstance(self.decoder, PaperDecoder) and self.decoder.takes_maps_as_they_are
        return {"psi_model.ckpt": self.decoder.psi} if is_published else {}

    def mask_logit(self, spectrogram: Spectrogram, evidence: Evidence) -> Tensor:
        """[B, T, F] logits of the mask, float32."""
        return self.decoder(evidence.features.maps, spectrogram.log_magnitude).float()

    def interpret(
        self, classifier: AudioClassifier, spectrogram: Spectrogram, evidence: Evidence, target: Tensor | None = None
    ) -> Interpretation:
        target = self.asked_class(evidence, target)
        return masked(spectrogram, self.mask_logit(spectrogram, evidence).sigmoid(), target)

    def loss(
        self,
        classifier: AudioClassifier,
        spectrogram: Spectrogram,
        evidence: Evidence,
        clean: Spectrogram | None = None,
    ) -> dict[str, Tensor]:
        logit = self.mask_logit(spectrogram, evidence)
        mask = logit.sigmoid()
        target = evidence.prediction.detach()
        parts = masked(spectrogram, mask, target)
        faithful = masking_terms(
            classifier,
            parts.relevant,
            parts.residual,
            target,
            self.weights["inside"],
            self.weights["outside"],
            self.outside_limit,
        )
        terms = {}
        if self.weights["sparsity"]:
            terms["sparsity"] = mask.mean(dim=(1, 2))
        if self.weights["smoothness"]:
            steps = mask.diff(dim=1).abs().sum(dim=(1, 2)) + mask.diff(dim=2).abs().sum(dim=(1, 2))
            terms["smoothness"] = steps / mask[0].numel()
        if self.weights["guidance"]:
            energy = (spectrogram if clean is None else clean).log_magnitude.float()
            near = self.correlates(parts.relevant, energy)
            terms["guidance"] = self.guidance(logit, energy) * near
            if "sparsity" in terms:
                terms["sparsity"] = terms["sparsity"] * ~near
        return faithful | {name: self.weights[name] * term for name, term in terms.items()}

    @torch.no_grad()
    def correlates(self, relevant: Spectrogram, energy: Tensor) -> Tensor:
        """[B] whether the relevant part is so like the clean log1p magnitude [B, T, F] as to be guided."""
        kept = relevant.log_magnitude.float().flatten(1)
        return F.cosine_similarity(kept, energy.flatten(1)) >= self.min_correlation

    def guidance(self, logit: Tensor, energy: Tensor) -> Tensor:
        """[B] binary cross-entropy of the mask against the bins with much of the clip's energy [B, T, F]."""
        loud = energy >= self.energy_threshold * energy.amax(dim=(1, 2), keepdim=True)
        return F.binary_cross_entropy_with_logits(logit, loud.float(), reduction="none").mean(dim=(1, 2))
