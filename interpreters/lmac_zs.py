"""LMAC-ZS: L-MAC for zero-shot classifiers, whose mask is decoded for the prompt that is asked about.

Paissan, Della Libera, Ravanelli and Subakan, Listenable Maps for Zero-Shot Audio Classifiers, NeurIPS 2024 (arXiv
2405.17615).
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from interpreters.base import Interpreter, masked
from interpreters.gradients import seeded
from interpreters.masking import checked_weights
from models.classifier import ClassifierInfo, Evidence
from models.errors import UsageError
from models.frontend import Spectrogram

VALIDATION_SEED = 5


class PromptedMaps(nn.Module):
    """Feature maps whose channels are scaled and shifted as a prompt asks (FiLM, Perez et al., arXiv 1709.07871).

    Arguments
    ---------
    map_channels: C of each map. prompt_size: D.
    """

    def __init__(self, map_channels: Sequence[int], prompt_size: int):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(prompt_size, 2 * channels) for channels in map_channels)

    def forward(self, maps: Sequence[Tensor], prompt: Tensor) -> tuple[Tensor, ...]:
        """maps [B, C, h, w] and a prompt for each clip [B, D] to maps of the same sizes."""
        prompted = []
        for feature_map, layer in zip(maps, self.layers, strict=True):
            scale, shift = layer(prompt)[:, :, None, None].chunk(2, dim=1)
            prompted.append(feature_map * (1 + scale) + shift)
        return tuple(prompted)


class LMACZS(Interpreter):
    """A decoder's mask for each prompt, trained so that the prompt hears what the mask keeps as it hears the whole.

    The mask of prompt k is M_k = sigmoid(D(h, t_k)). h: the classifier's feature maps. t_k: the direction of prompt k
    in the space that sounds and sentences share. z_k(X): the logit of prompt k, its scaled cosine to the embedding of
    X, the log1p magnitude. Loss per clip over the prompts Q that are asked about, the predicted one and `others` that
    are drawn:

        similarity  w_s  mean over k in Q of |z_k(X) - z_k(M_k X)|
        sparsity    w_1  mean over k in Q of mean |M_k|
        diversity   w_d  mean over pairs k, l in Q of max(0, cos(M_k, M_l) - t_k . t_l)

    `similarity` is the paper's idea: for every pair of text and sound, the masked sound keeps the similarity t . f(X).
    So a prompt that has little to do with a sound may have an empty mask. Of the paper, its abstract, figures and their
    captions could be read, and not its equations: the weights, `sparsity` and the form of `diversity` (whose purpose,
    masks that depend more on the prompt, is that of the paper's equation 7) are this project's. So is the way in which
    the prompt enters the decoder. Other differences: the prompts are those of the classifier's classes, where the paper
    takes the captions of a batch; similarities are multiplied by the classifier's own factor, so that the weights mean
    the same for each.

    Arguments
    ---------
    decoder: as L-MAC has it.
    similarity, sparsity, diversity: the weights; a term of weight 0 is not computed.
    others: prompts drawn beside the predicted one, from 1 to K - 1.

    Raises UsageError for a negative weight, and for another number of prompts.
    """

    requires = frozenset({"maps", "prompts"})
    trainable = True
    training_settings = frozenset({"similarity", "sparsity", "diversity", "others"})
    answers_any_class = True

    def __init__(
        self,
        info: ClassifierInfo,
        decoder: Callable[[tuple[int, ...]], nn.Module],
        similarity: float = 1.0,
        sparsity: float = 0.4,
        diversity: float = 0.1,
        others: int = 1,
    ):
        super().__init__(info)
        self.weights = checked_weights("LMAC-ZS", similarity=similarity, sparsity=sparsity, diversity=diversity)
        if not 1 <= others < info.num_classes:
            raise UsageError(f"others={others} must be from 1 to {info.num_classes - 1}, the other prompts, in LMAC-ZS")
        if info.prompt_size is None:
            raise UsageError("LMAC-ZS needs a classifier that says the `prompt_size` of its prompts")
        self.others = others
        self.prompted = PromptedMaps(info.map_channels, info.prompt_size)
        self.decoder = decoder(info.map_channels)

    def mask_logit(self, spectrogram: Spectrogram, evidence: Evidence, target: Tensor) -> Tensor:
        """[B, T, F] logits of the mask for the prompt of a class [B], float32."""
        if evidence.prompts is None:
            raise UsageError("LMAC-ZS needs evidence with the classifier's prompts, and this has none")
        maps = self.prompted(evidence.features.maps, evidence.prompts[target])
        return self.decoder(maps, spectrogram.log_magnitude).float()

    def interpret(self, classifier, spectrogram, evidence, target=None):
        target = self.asked_class(evidence, target)
        return masked(spectrogram, self.mask_logit(spectrogram, evidence, target).sigmoid(), target)

    def loss(self, classifier, spectrogram, evidence, clean=None):
        """Terms "similarity", "sparsity" and "diversity"; X is what the classifier heard, so `clean` is not used."""
        asked = self.asked_prompts(evidence)
        masks, changes = [], []
        for target in asked.unbind(dim=1):
            mask = self.mask_logit(spectrogram, evidence, target).sigmoid()
            masks.append(mask)
            if self.weights["similarity"]:
                kept = classifier(spectrogram.masked(mask))
                changes.append((_logit(kept, target) - _logit(evidence, target).detach()).abs())
        terms = {}
        if self.weights["similarity"]:
            terms["similarity"] = torch.stack(changes).mean(dim=0)
        if self.weights["sparsity"]:
            terms["sparsity"] = torch.stack(masks).mean(dim=(0, 2, 3))
        if self.weights["diversity"]:
            terms["diversity"] = _excess_likeness(masks, evidence.prompts[asked].unbind(dim=1))
        return {name: self.weights[name] * term for name, term in terms.items()}

    @torch.no_grad()
    def asked_prompts(self, evidence: Evidence) -> Tensor:
        """[B, 1 + others] different prompts for every clip, the predicted one first; the same in every validation."""
        predicted = evidence.prediction.unsqueeze(1)
        with nullcontext() if self.training else seeded(VALIDATION_SEED, predicted.device):
            rank = torch.rand(evidence.logits.shape, device=predicted.device)
        drawn = rank.scatter(1, predicted, -1.0).topk(self.others, dim=1).indices
        return torch.cat([predicted, drawn], dim=1)


def _logit(evidence: Evidence, target: Tensor) -> Tensor:
    """[B] the logit of a class [B], float32."""
    return evidence.logits.float().gather(1, target.unsqueeze(1)).squeeze(1)


def _excess_likeness(masks: Sequence[Tensor], prompts: Sequence[Tensor]) -> Tensor:
    """[B] by how much masks [B, T, F] are more alike than their prompts [B, D], mean over the pairs of prompts."""
    excesses = []
    for second in range(1, len(masks)):
        for first in range(second):
            alike = F.cosine_similarity(masks[first].flatten(1), masks[second].flatten(1))
            excesses.append((alike - (prompts[first] * prompts[second]).sum(dim=1)).clamp(min=0))
    return torch.stack(excesses).mean(dim=0)
