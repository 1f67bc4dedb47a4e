"""Audio classifiers of Hugging Face's `transformers`, heard through a differentiable form of their feature extractors.

The Audio Spectrogram Transformer (Gong et al., Interspeech 2021, arXiv 2104.01778) and the models that take waveforms,
such as wav2vec 2.0 (Baevski et al., NeurIPS 2020, arXiv 2006.11477), HuBERT and WavLM. The extractors that
`transformers` ships work in NumPy, which stops gradients; these adapters compute the same numbers in torch.
"""

import json
from collections.abc import Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F
import torchaudio
from torch import Tensor, nn
from torchaudio.compliance.kaldi import fbank
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModelForAudioClassification,
    PretrainedConfig,
    PreTrainedModel,
)

from models.adapters import to_linear
from models.classifier import AudioClassifier, ClassifierInfo, Features
from models.errors import UsageError
from models.frontend import FrontEnd, Spectrogram
from models.heads import HEADS, Head
from models.pretrained import check_allowed, check_reachable
from models.vit import token_attention

OWN_HEAD = "own"
FBANK, WAVE = "ASTFeatureExtractor", "Wav2Vec2FeatureExtractor"
# feature extractor: the settings that decide what the network hears
SETTINGS = {
    FBANK: ("sampling_rate", "do_normalize", "num_mel_bins", "max_length", "mean", "std"),
    WAVE: ("sampling_rate", "do_normalize"),
}
NO_ARCHITECTURE = {"architectures", "dtype", "id2label", "label2id", "problem_type", "transformers_version"}


class WaveAdapter(nn.Module):
    """The waveform at the network's rate, with zero mean and unit variance if it was trained so.

    The spectrogram is synthesised, so that masks reach the network. Always float32, differentiable and finite.
    """

    min_seconds = 0.025  # of one frame

    def __init__(self, frontend: FrontEnd, sampling_rate: int, do_normalize: bool):
        super().__init__()
        self.frontend, self.rate, self.normalize = frontend, sampling_rate, do_normalize

    def forward(self, spectrogram: Spectrogram) -> Tensor:
        """Spectrogram of [B, T, F] to [B, samples]; less than one frame is padded with silence."""
        waveform = self._sound(spectrogram)
        if self.normalize:
            waveform = waveform - waveform.mean(dim=1, keepdim=True)
            waveform = waveform / (waveform.square().mean(dim=1, keepdim=True) + 1e-7).sqrt()
        return waveform

    def _sound(self, spectrogram: Spectrogram) -> Tensor:
        waveform = self.frontend.synthesize(spectrogram)
        with torch.autocast(waveform.device.type, enabled=False):
            waveform = torchaudio.functional.resample(waveform, self.frontend.sample_rate, self.rate)
        return F.pad(waveform, (0, max(0, round(self.min_seconds * self.rate) - waveform.shape[1])))


class FbankAdapter(WaveAdapter):
    """Kaldi's log mel filter bank (25 ms Hann windows every 10 ms), normalised: the Audio Spectrogram Transformer's.

    Its bands, and the maps of what hears them, lie on a mel axis from `mel_low` to `mel_top`.
    """

    window, scale = "hanning", 1.0
    mel_low = 20.0  # Hz

    def __init__(
        self,
        frontend: FrontEnd,
        sampling_rate: int,
        do_normalize: bool,
        num_mel_bins: int,
        max_length: float,
        mean: float,
        std: float,
    ):
        super().__init__(frontend, sampling_rate, do_normalize)
        self.mel_top = sampling_rate / 2
        self.num_mels, self.max_frames = num_mel_bins, max_length
        self.mean, self.std = (mean, 2 * std) if do_normalize else (0.0, 1.0)

    def forward(self, spectrogram: Spectrogram) -> Tensor:
        """Spectrogram of [B, T, F] to [B, 100 frames a second, num_mel_bins].

        Raises UsageError for a sound of more than `max_length` frames: the network does not hear the rest.
        """
        with torch.autocast(spectrogram.log_magnitude.device.type, enabled=False):
            sounds = self.scale * self._sound(spectrogram).unsqueeze(1)
            options = {"sample_frequency": self.rate, "window_type": self.window, "num_mel_bins": self.num_mels}
            mel = torch.stack([fbank(sound, **options) for sound in sounds])  # [B, frames, num_mels]
        if mel.shape[1] > self.max_frames:
            longest = f"{self.max_frames / 100:g}"
            raise UsageError(
                f"this classifier hears {longest} s at most: set clip_seconds to no more, or let it hear windows, "
                f"--windows='{{seconds: {longest}}}'"
            )
        return (mel - self.mean) / self.std

    @property
    def silence(self) -> float:
        """What the network knows as padding."""
        return -self.mean / self.std


class WaveBackbone(nn.Module):
    """A network on waveforms, without its head. Its maps [B, C, h, 1] have frames and no frequency."""

    def __init__(self, model: PreTrainedModel, provenance: str):
        super().__init__()
        self.model, self.provenance = model, provenance
        self.embedding_size = next(model.classifier.parameters()).shape[-1]

    def take_head(self) -> nn.Module:
        """The network's own head, [B, D] -> [B, K]. What is left ends in the head's input, the embedding."""
        head, self.model.classifier = self.model.classifier, nn.Identity()
        return head

    def forward(self, waveform: Tensor) -> Features:
        """waveform [B, samples] to Features with the hidden states of four layers."""
        output = self.model(waveform, output_hidden_states=True)
        maps = (hidden.transpose(1, 2).unsqueeze(3) for hidden in quarters(output.hidden_states))
        return Features(output.logits, tuple(maps))


class PatchBackbone(WaveBackbone):
    """An Audio Spectrogram Transformer without its head; its native map is the attention that its head's tokens pay.

    The head sees the mean of the class and the distillation token, so the attention map is the mean over both and over
    the heads of the last layer. Patches of padding are left out of all maps.

    Arguments
    ---------
    model, provenance: the network and where its weights came from.
    adapter: what it hears with; gives the padding, and brings the native map from mel to linear frequency.
    """

    map_name = "attention"

    tokens = 2
    linear: Tensor

    def __init__(self, model: PreTrainedModel, provenance: str, adapter: FbankAdapter):
        super().__init__(model, provenance)
        config = model.config
        self.patch, self.stride, self.max_frames = config.patch_size, config.time_stride, config.max_length
        self.silence = adapter.silence
        self.rows = (config.num_mel_bins - self.patch) // config.frequency_stride + 1
        linear = to_linear(adapter, (self.patch - 1) / 2, config.frequency_stride, self.rows)
        self.register_buffer("linear", linear, persistent=False)  # [rows, F]

    def forward(self, image: Tensor) -> Features:
        """image [B, frames, mels] to Features with patches [B, C, h, w] of four layers and attention [B, 1, h, F]."""
        frames = image.shape[1]
        image = F.pad(image, (0, 0, 0, self.max_frames - frames), value=self.silence)
        layer = self.model.base_model.layers[-1].attention
        output, attention = token_attention(layer, lambda: self.model(image, output_hidden_states=True), self.tokens)
        maps = tuple(self._as_map(hidden, frames) for hidden in quarters(output.hidden_states))
        return Features(output.logits, maps, self._as_map(attention.unsqueeze(2), frames) @ self.linear)

    def _as_map(self, tokens: Tensor, frames: int) -> Tensor:
        """[B, 2 + w * all patches in time, C] to [B, C, h, w], the h of them that lie in the sound."""
        inside = max(1, (frames - self.patch) // self.stride + 1)
        return tokens[:, self.tokens :].transpose(1, 2).unflatten(2, (self.rows, -1)).transpose(2, 3)[:, :, :inside]


def quarters(hidden: tuple[Tensor, ...]) -> list[Tensor]:
    """Of the states before, between and after a network's layers, those after each quarter of the layers."""
    depth = len(hidden) - 1
    return [hidden[depth * quarter // 4] for quarter in (1, 2, 3, 4)]


class HuggingFaceClassifier(AudioClassifier):
    """An `AutoModelForAudioClassification` that hears filter banks as AST does, or waveforms as wav2vec 2.0 does.

    Arguments
    ---------
    frontend: the classifier's front end; its rate may differ from the network's.
    weights: hub name such as "MIT/ast-finetuned-audioset-10-10-0.4593", or a local folder in that layout.
    num_classes: K of a new head; None keeps the published head, and `class_names` says what its outputs mean.
    architecture: in place of weights, the `architecture` of a network to build: what a bundle's YAML holds.
    labels: as `AudioClassifier` has them. AudioSet's published heads are of "several".
    windows: as `AudioClassifier` has it.
    head: "own", the network's (a layer norm and a linear layer in AST), or another of `models.heads.HEADS`, with
        `head_blocks` and `logit_scale` as `Head` has them.

    Raises UsageError for weights that are missing, incomplete or hear otherwise, for neither or both of the two, and
    for another head whose classes are not counted.
    """

    def __init__(
        self,
        frontend: FrontEnd,
        weights: str | None = None,
        num_classes: int | None = None,
        architecture: dict | None = None,
        labels: str = "one",
        windows: Mapping | None = None,
        head: str = "own",
        head_blocks: int = 0,
        logit_scale: float = 30.0,
    ):
        if head not in (OWN_HEAD, *HEADS):
            raise UsageError(f"head={head!r} is not one of {OWN_HEAD}, {', '.join(HEADS)}")
        if (weights is None) == (architecture is None):
            raise UsageError("give a Hugging Face classifier weights, a hub name or a folder, or else architecture")
        if weights is not None:
            model, heard = _published(weights, num_classes)
        elif architecture is not None:
            model, heard = _rebuilt(architecture, num_classes)
        kind = heard["feature_extractor_type"]
        if kind not in SETTINGS:
            raise UsageError(f"{weights or 'architecture'} hears through {kind}, not one of {', '.join(SETTINGS)}")
        settings = {name: heard[name] for name in SETTINGS[kind]}
        provenance = "from scratch" if weights is None else str(weights)
        adapter: WaveAdapter
        backbone: WaveBackbone
        if kind == FBANK:
            adapter = filter_bank = FbankAdapter(frontend, **settings)
            backbone = PatchBackbone(model, provenance, filter_bank)
        else:
            adapter, backbone = WaveAdapter(frontend, **settings), WaveBackbone(model, provenance)
        own_head = backbone.take_head()

        def make_head(size: int) -> nn.Module:
            if head == OWN_HEAD:
                return own_head
            if num_classes is None:
                raise UsageError(f"head={head} is a new one for num_classes classes: pass num_classes, or head=own")
            return Head(size, head, num_classes, head_blocks, logit_scale)

        super().__init__(frontend, adapter, backbone, make_head, labels, windows)
        self.class_names = tuple(model.config.id2label[k] for k in range(model.config.num_labels))
        self.architecture = {
            "model": plain_config(model.config),
            "features": {"feature_extractor_type": kind} | settings,
        }

    def describe(self) -> ClassifierInfo:
        """As `AudioClassifier.describe`, with the `settings` that rebuild this network without its weights' folder."""
        info = super().describe()
        return replace(info, settings={"architecture": self.architecture, "num_classes": info.num_classes})


def _published(weights: str, num_classes: int | None) -> tuple[PreTrainedModel, dict]:
    """The network and its feature extractor's settings. A head for other classes starts from random weights."""
    check_allowed(weights)
    options = {} if num_classes is None else {"num_labels": num_classes, "ignore_mismatched_sizes": True}
    try:
        check_reachable(weights)
        heard = AutoFeatureExtractor.from_pretrained(weights).to_dict()
        model, report = AutoModelForAudioClassification.from_pretrained(
            weights, dtype=torch.float32, output_loading_info=True, **options
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"weights={weights!r} could not be loaded ({str(error).splitlines()[0]}): give the hub name or the "
            "folder of an audio classifier of transformers"
        ) from error
    new = () if num_classes is None else ("classifier.", "projector.")
    missing = sorted(key for key in report["missing_keys"] if not key.startswith(new or "\0"))
    if missing:
        raise UsageError(
            f"weights={weights!r} lack {len(missing)} tensors such as {missing[0]}: pass num_classes for a "
            "new head, or weights that are whole"
        )
    return model, heard


def _rebuilt(architecture: dict, num_classes: int | None) -> tuple[PreTrainedModel, dict]:
    """The network of an `architecture`, with random weights. What its configuration does not know is ignored."""
    try:
        said, heard = architecture["model"], architecture["features"]
        known = plain_config(AutoConfig.for_model(said["model_type"]))
        config = AutoConfig.for_model(**{key: said[key] for key in known if key in said}, num_labels=num_classes)
        return AutoModelForAudioClassification.from_config(config), heard
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"architecture is not one that a Hugging Face classifier has: {str(error)[:200]}") from error


def plain_config(config: PretrainedConfig) -> dict:
    """The settings of a configuration that shape its network, as plain data."""
    said = {key: value for key, value in config.to_dict().items() if key[0] != "_" and key not in NO_ARCHITECTURE}
    return json.loads(json.dumps(said))
