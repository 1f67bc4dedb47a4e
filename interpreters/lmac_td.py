"""LMAC-TD: listenable explanations made in the time domain.

Mancini et al., arXiv 2409.08655. A filterbank encodes the sound, a SepFormer that sees the encoded sound and
the classifier's maps masks it, and the filterbank's decoder turns both sides of the mask into sound.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import chain

import torch
from speechbrain.nnet.losses import cal_si_snr
from torch import Tensor

from interpreters.base import Interpretation, Interpreter
from interpreters.decoders import MapDecoder, PaperMapDecoder
from interpreters.interpolation import sample_at
from interpreters.masking import checked_weights, masking_terms
from interpreters.separator import Codec, MaskNetwork
from models.classifier import AudioClassifier, ClassifierInfo, Evidence
from models.errors import UsageError
from models.frontend import Spectrogram


@dataclass(frozen=True)
class Separation:
    """Two sounds [B, N] that the mask made of one."""

    relevant: Tensor
    residual: Tensor


class LMACTD(Interpreter):
    """A mask on the encoded sound, guided by the classifier's maps.

    With H_e the encoded sound and H_d the decoded maps, both [B, filters, L],

        M = sigmoid(SepFormer((1 - alpha) H_e + alpha H_d))
        relevant = decode(M H_e), residual = decode((1 - M) H_e).

    Two differences from the published method, and what undoes them. The codec starts as a tight frame and
    stays so: relevant + residual is exactly the input (`Codec(init="random")`, `freeze_codec=False`). H_e and
    H_d are brought to unit RMS per clip before they are mixed: alpha means the same for a faint clip and a
    loud one (`balance=False`).

    A sound longer than `max_seconds` is separated in windows of that length, of which a quarter overlaps, the
    last one flush with the end. Each gets what a clip of just its samples would get, given the maps of the
    whole sound; overlaps are faded linearly. The networks thus need the memory of one window only.

    Arguments
    ---------
    codec: called without arguments, returns the Codec. freeze_codec: keep it as it starts.
    mask_network: called with the codec's filters, returns the network [B, filters, L] -> mask of that shape.
    alpha: in [0, 1], share of the classifier's maps at the mask network's input; 0 has no map decoder.
    map_decoder: called with the maps' channels and the codec's filters, returns the module that takes the maps and
        gives [B, filters, h]; None: a `MapDecoder`. width: channels of that one.
    balance: unit RMS before mixing. max_seconds: longest window.
    inside, outside, sparsity, reconstruction: weights of the loss terms; a term of weight 0 is not computed.

    Raises UsageError for an alpha outside [0, 1], a negative weight, and a window too short for the codec.
    """

    requires = frozenset({"maps"})
    trainable = True
    training_settings = frozenset({"inside", "outside", "sparsity", "reconstruction", "freeze_codec"})

    def __init__(
        self,
        info: ClassifierInfo,
        codec: Callable[[], Codec] = Codec,
        mask_network: Callable[[int], torch.nn.Module] = MaskNetwork,
        alpha: float = 0.75,
        freeze_codec: bool = True,
        balance: bool = True,
        width: int = 256,
        max_seconds: float = 10.0,
        inside: float = 4.0,
        outside: float = 0.2,
        sparsity: float = 0.4,
        reconstruction: float = 0.0,
        map_decoder: Callable[..., torch.nn.Module] | None = None,
    ):
        super().__init__(info)
        if not 0 <= alpha <= 1:
            raise UsageError(f"alpha={alpha} must be in [0, 1]: 0 sees only the sound, 1 only the maps")
        terms = {"sparsity": sparsity, "reconstruction": reconstruction}
        self.weights = checked_weights("LMAC-TD", inside=inside, outside=outside, **terms)
        self.alpha, self.balance = alpha, balance
        self.codec = codec().requires_grad_(not freeze_codec)
        self.window = round(max_seconds * info.sample_rate)
        if self.window < 4 * self.codec.stride:
            raise UsageError(f"max_seconds={max_seconds} must be at least two of the codec's filters long")
        filters = self.codec.filters
        self.map_decoder = None
        if alpha > 0:
            make_decoder = map_decoder or partial(MapDecoder, width=width)
            self.map_decoder = make_decoder(info.map_channels, out_channels=filters)
        self.mask_network = mask_network(filters)

    def published_parts(self):
        """The four files of a checkpoint of lmac-td-code; at alpha 0 it has no decoder of the maps."""
        parts: dict[str, torch.nn.Module] = {
            "encoder.ckpt": self.codec.encoder,
            "decoder.ckpt": self.codec.decoder,
            "masknet.ckpt": self.mask_network,
        }
        if self.map_decoder is None:
            return parts
        if isinstance(self.map_decoder, PaperMapDecoder) and self.map_decoder.takes_maps_as_they_are:
            return parts | {"convt_decoder.ckpt": self.map_decoder}
        return {}

    def interpret(
        self, classifier: AudioClassifier, spectrogram: Spectrogram, evidence: Evidence, target: Tensor | None = None
    ) -> Interpretation:
        """Explain the predicted class of every clip.

        The mask lies on encoded frames, not on the time-frequency plane. `mask` is therefore the relevant
        share of every bin, |relevant| / (|relevant| + |residual|) in linear magnitude, 0 where both are 0.
        """
        target = self.asked_class(evidence, target)
        frontend = classifier.frontend
        parts = self.separate(frontend.synthesize(spectrogram), evidence.features.maps)
        relevant, residual = frontend.analyze(parts.relevant), frontend.analyze(parts.residual)
        total = relevant.magnitude + residual.magnitude
        share = (relevant.magnitude / total.clamp(min=torch.finfo(total.dtype).tiny)).clamp(0, 1)
        return Interpretation(relevant, residual, share, target, importance=share)

    def loss(
        self,
        classifier: AudioClassifier,
        spectrogram: Spectrogram,
        evidence: Evidence,
        clean: Spectrogram | None = None,
    ) -> dict[str, Tensor]:
        """Weighted terms [B]: inside and outside as in L-MAC, sparsity and reconstruction.

        sparsity: mean log1p magnitude of the relevant sound. reconstruction: negative SI-SNR in dB of
        relevant + residual against the input. clean: not used.
        """
        frontend, weights = classifier.frontend, self.weights
        waveform = frontend.synthesize(spectrogram)
        parts = self.separate(waveform, evidence.features.maps)
        relevant, residual = frontend.analyze(parts.relevant), frontend.analyze(parts.residual)
        target = evidence.prediction.detach()
        terms = masking_terms(classifier, relevant, residual, target, weights["inside"], weights["outside"])
        if weights["sparsity"]:
            terms["sparsity"] = weights["sparsity"] * relevant.log_magnitude.mean(dim=(1, 2))
        if weights["reconstruction"]:
            pair = (sound.T.unsqueeze(2) for sound in (waveform, parts.relevant + parts.residual))
            terms["reconstruction"] = weights["reconstruction"] * cal_si_snr(*pair)[0, :, 0]
        return terms

    def separate(self, waveform: Tensor, maps: tuple[Tensor, ...]) -> Separation:
        """waveform [B, N] and the classifier's maps of it to the relevant and the residual sound, float32."""
        guide = self._guide(maps)
        num_samples = waveform.shape[1]
        if num_samples <= self.window:
            return Separation(*self._window(waveform, guide, 0, num_samples))
        overlap = self.window // 4
        last = num_samples - self.window
        rise = torch.arange(1, self.window + 1, device=waveform.device).clamp(max=overlap) / overlap
        fade = torch.minimum(rise, rise.flip(0))
        total, weight = waveform.new_zeros(2, *waveform.shape), waveform.new_zeros(num_samples)
        for start in chain(range(0, last, self.window - overlap), [last]):
            window = slice(start, start + self.window)
            total[:, :, window] += fade * self._window(waveform, guide, start, self.window)
            weight[window] += fade
        return Separation(*(total / weight))

    def _window(self, waveform: Tensor, guide: Tensor | None, start: int, length: int) -> Tensor:
        """[2, B, length]: the relevant and the residual sound of the samples from `start`."""
        encoded = self.codec.encode(waveform[:, start : start + length])
        mask = self._mask(encoded, guide, start, waveform.shape[1])
        return torch.stack([self.codec.decode(part * encoded, length) for part in (mask, 1 - mask)])

    def mask_of(self, waveform: Tensor, maps: tuple[Tensor, ...]) -> Tensor:
        """[B, filters, L] the mask on the code of sounds [B, N] that one window holds, given the classifier's maps."""
        return self._mask(self.codec.encode(waveform), self._guide(maps), 0, waveform.shape[1])

    def _guide(self, maps: tuple[Tensor, ...]) -> Tensor | None:
        """[B, filters, h] the decoded maps of the whole sound; None at alpha 0."""
        return None if self.map_decoder is None else self.map_decoder(maps)

    def _mask(self, encoded: Tensor, guide: Tensor | None, start: int, num_samples: int) -> Tensor:
        """[B, filters, L] of a code whose first frame is centred on the sample `start` of `num_samples`."""
        frames = encoded.shape[2]
        # of a guide with a step for every frame of the whole sound, each frame has its own
        is_own_frames = guide is not None and start == 0 and guide.shape[2] == frames
        if guide is not None and not is_own_frames:
            centre = start + self.codec.stride * torch.arange(frames, device=encoded.device)
            guide = sample_at(guide, centre / num_samples)
        return self.mask_network(self._mix(encoded, guide))

    def _mix(self, encoded: Tensor, guide: Tensor | None) -> Tensor:
        """(1 - alpha) H_e + alpha H_d [B, filters, L], exactly H_e at alpha 0 and exactly H_d at alpha 1."""
        scale = _unit_rms if self.balance else Tensor.float
        if guide is None:
            return scale(encoded)
        return torch.lerp(scale(encoded), scale(guide), self.alpha)


def _unit_rms(features: Tensor) -> Tensor:
    """[B, C, L] divided by its root mean square per clip; digital silence stays silent."""
    features = features.float()
    return features * (features.square().mean(dim=(1, 2), keepdim=True) + 1e-10).rsqrt()
