"""Zero-shot classifiers: CLAP, whose classes are sentences, heard through a differentiable form of its extractor.

Contrastive Language-Audio Pretraining (Wu et al., ICASSP 2023, arXiv 2211.06687), as `transformers` has it: an audio
network (HTSAT) and a text network end in one space, and a sound belongs to the prompt of the nearest direction. The
extractor that `transformers` ships works in NumPy, which stops gradients; `ClapAdapter` computes the same numbers in
torch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import (
    AutoFeatureExtractor,
    AutoTokenizer,
    ClapAudioConfig,
    ClapAudioModelWithProjection,
    ClapModel,
)
from transformers.audio_utils import mel_filter_bank

from models.classifier import AudioClassifier, ClassifierInfo, Evidence, Features
from models.errors import UsageError
from models.frontend import FrontEnd, Spectrogram
from models.huggingface import WaveAdapter, plain_config
from models.pretrained import check_allowed, check_reachable
from models.windows import WindowMaps

EXTRACTOR = "ClapFeatureExtractor"
SETTINGS = (
    "sampling_rate",
    "feature_size",
    "hop_length",
    "max_length_s",
    "fft_window_size",
    "frequency_min",
    "frequency_max",
    "truncation",
    "padding",
)
"""The settings of the extractor that decide what the network hears."""

FILTERS = {"fusion": (None, "htk"), "rand_trunc": ("slaney", "slaney")}
"""Norm and scale of the mel filters, by the extractor's truncation."""

PADDINGS = ("repeatpad", "repeat", "pad")
SMALLEST_POWER = 1e-10
TEMPLATE = "This is a sound of {}."


@dataclass(frozen=True)
class Heard:
    """What the audio network is shown of B clips.

    mel: [B, 1, frames, mels] in dB, of the clip repeated or padded to the network's length. samples: of one clip, at
    the network's rate.
    """

    mel: Tensor
    samples: int


class ClapAdapter(WaveAdapter):
    """The log mel spectrogram of `ClapFeatureExtractor`, for clips that are no longer than the network's length.

    Shorter ones are repeated as often as they fit, and silence follows ("repeatpad"), cut in the last repetition
    ("repeat"), or followed by silence at once ("pad"). Always float32, differentiable and finite.

    The extractor cuts longer clips at random places, so that its answer differs from call to call. They are refused
    here: `windows` hear all of them. That leaves one difference between its two truncations, the mel filters: HTK's
    for "fusion", whose four spectrograms of a short clip are all the same, and Slaney's for "rand_trunc".

    Arguments are the extractor's. Raises UsageError for a truncation or padding that it does not have.
    """

    filters: Tensor
    window: Tensor

    def __init__(
        self,
        frontend: FrontEnd,
        sampling_rate: int,
        feature_size: int,
        hop_length: int,
        max_length_s: int,
        fft_window_size: int,
        frequency_min: float,
        frequency_max: float,
        truncation: str,
        padding: str,
    ):
        super().__init__(frontend, sampling_rate, do_normalize=False)
        if truncation not in FILTERS or padding not in PADDINGS:
            raise UsageError(
                f"truncation={truncation!r} must be one of {', '.join(FILTERS)}, and padding={padding!r} one of "
                f"{', '.join(PADDINGS)}"
            )
        self.n_fft, self.hop, self.padding = fft_window_size, hop_length, padding
        self.max_seconds, self.max_samples = max_length_s, max_length_s * sampling_rate
        self.mel_top = frequency_max
        norm, scale = FILTERS[truncation]
        filters = mel_filter_bank(
            num_frequency_bins=fft_window_size // 2 + 1,
            num_mel_filters=feature_size,
            min_frequency=frequency_min,
            max_frequency=frequency_max,
            sampling_rate=sampling_rate,
            norm=norm,
            mel_scale=scale,
        )
        self.register_buffer("filters", torch.from_numpy(filters).float(), persistent=False)  # [bins, mels]
        self.register_buffer("window", torch.hann_window(fft_window_size), persistent=False)

    def forward(self, spectrogram: Spectrogram) -> Heard:  # type: ignore[override]
        """Spectrogram of [B, T, F] to what the network hears. Raises UsageError for clips that are too long."""
        with torch.autocast(spectrogram.log_magnitude.device.type, enabled=False):
            sound = self._sound(spectrogram)
            stft = torch.stft(
                self._filled(sound), self.n_fft, self.hop, window=self.window, pad_mode="reflect", return_complex=True
            )
            # not abs(): its gradient at silence is NaN
            power = torch.view_as_real(stft).square().sum(dim=-1).transpose(1, 2)  # [B, frames, bins]
            decibels = 10 * (power @ self.filters).clamp(min=SMALLEST_POWER).log10()
        return Heard(decibels.unsqueeze(1), sound.shape[1])

    def copies(self, samples: int) -> int:
        """How often a clip of that many samples fits whole into what the network hears."""
        return 1 if self.padding == "pad" else max(1, self.max_samples // samples)

    def _filled(self, sound: Tensor) -> Tensor:
        """[B, samples] to [B, max_samples]."""
        samples = sound.shape[1]
        if samples > self.max_samples:
            raise UsageError(
                f"this classifier hears {self.max_seconds} s at most: set clip_seconds to no more, or let it hear "
                f"windows, --windows='{{seconds: {self.max_seconds}}}'"
            )
        copies = self.copies(samples) + (self.padding == "repeat")
        repeated = sound.repeat(1, copies)[:, : self.max_samples]
        return F.pad(repeated, (0, self.max_samples - repeated.shape[1]))


class ClapBackbone(nn.Module):
    """CLAP's audio network and projection. Its maps are those of the stages of HTSAT, before each makes them smaller.

    HTSAT lays a spectrogram out as a square: one stretch of time after another, from top to bottom. `Features.maps`
    are put back in order, [B, C, time, frequency], and the repetitions of a clip are averaged into one.

    Arguments
    ---------
    network: from `transformers`. provenance: where its weights came from. adapter: what it hears with.
    """

    def __init__(self, network: ClapAudioModelWithProjection, provenance: str, adapter: ClapAdapter):
        super().__init__()
        self.network, self.provenance = network, provenance
        self.embedding_size = network.config.projection_dim
        self.stretches = network.audio_model.audio_encoder.freq_ratio
        self.max_samples, self.copies = adapter.max_samples, adapter.copies

    def forward(self, heard: Heard) -> Features:
        """What the adapter gives to Features: the projected embedding and the maps of every stage."""
        encoder = self.network.audio_model.audio_encoder
        output = encoder(
            heard.mel,
            is_longer=torch.zeros(len(heard.mel), 1, dtype=torch.bool, device=heard.mel.device),
            output_hidden_states=True,
            output_hidden_states_before_downsampling=True,
        )
        stages = output.hidden_states[1:]  # before them, the patches
        join = partial(self._in_time, samples=heard.samples)
        maps = tuple(map(join, stages))
        embedding = self.network.audio_projection(output.pooler_output)
        return Features(embedding, maps, windows=WindowMaps(stages, join))

    def _in_time(self, plane: Tensor, samples: int) -> Tensor:
        """A plane [N, C, stretches x frequency, time in a stretch] as [N, C, time in one clip, frequency]."""
        stretched = plane.unflatten(2, (self.stretches, -1)).transpose(3, 4)  # [N, C, stretches, time, frequency]
        rows = stretched.flatten(2, 3)
        return self._shares(rows.shape[2], samples).to(rows) @ rows

    def _shares(self, columns: int, samples: int) -> Tensor:
        """[rows, columns] how much of each row of a clip is what each column of what was heard covers; rows sum to 1.

        A row of the clip is about as long as a column, and lies in every whole repetition of the clip.
        """
        long = self.max_samples / columns
        count = max(1, round(samples / long))
        starts = torch.arange(columns) * long
        shares = torch.zeros(count, columns)
        for copy in range(self.copies(samples)):
            begin = (copy * samples + torch.arange(count) * samples / count).unsqueeze(1)
            end = begin + samples / count
            shares += (torch.minimum(end, starts + long) - torch.maximum(begin, starts)).clamp(min=0)
        return shares / shares.sum(dim=1, keepdim=True)


class PromptHead(nn.Module):
    """Scaled cosines to the directions of K prompts, which stay as the text network gave them.

    Arguments
    ---------
    size: D of the embeddings. num_classes: K. scale: of the cosines; it is learned where the rest is fine-tuned.
    """

    text: Tensor

    def __init__(self, size: int, num_classes: int, scale: float = 1.0):
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(scale).log())
        # not a number until the prompts are known, so that classes without a prompt cannot pass for some
        self.register_buffer("text", torch.full((num_classes, size), torch.nan))

    @property
    def scale(self) -> float:
        return self.log_scale.exp().item()

    def forward(self, embedding: Tensor) -> Tensor:
        """embedding [B, D] to logits [B, K], float32."""
        with torch.autocast(embedding.device.type, enabled=False):
            return self.log_scale.exp() * F.normalize(embedding.float(), dim=1) @ self.text.T


class PromptEncoder:
    """CLAP's text network with its tokenizer. Only its own parts of the model are kept and frozen."""

    def __init__(self, model: ClapModel, weights: str):
        self.network = model.text_model.eval().requires_grad_(False)
        self.projection = model.text_projection.eval().requires_grad_(False)
        self.tokenizer = AutoTokenizer.from_pretrained(weights)

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> Tensor:
        """[K, D] directions of length 1."""
        tokens = self.tokenizer(list(prompts), padding=True, truncation=True, return_tensors="pt")
        text = self.network(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"])
        return F.normalize(self.projection(text.pooler_output), dim=1)


class ClapClassifier(AudioClassifier):
    """A `ClapModel` whose classes are prompts: it classifies without training.

    A bundle holds the audio network and the prompts' directions, not the text network.

    Arguments
    ---------
    frontend: the classifier's front end; its rate may differ from the network's.
    weights: hub name such as "laion/clap-htsat-unfused", or a local folder in that layout.
    prompts: a sentence for each class, in the order of the classes; None: made of their names when `name_classes`
        tells them.
    template: sentence with {} where the name of a class goes.
    num_classes: K. architecture: in place of weights, what a bundle's YAML holds.
    windows: as `AudioClassifier` has it.

    Raises UsageError for weights that are missing, incomplete or of another network, for neither or both of weights and
    architecture, for a template without {}, and for prompts that are not K different sentences.
    """

    head: PromptHead

    def __init__(
        self,
        frontend: FrontEnd,
        weights: str | None = None,
        prompts: Sequence[str] | None = None,
        template: str = TEMPLATE,
        num_classes: int | None = None,
        architecture: dict | None = None,
        windows: Mapping | None = None,
    ):
        if (weights is None) == (architecture is None):
            raise UsageError("give CLAP weights, a hub name or a folder, or else architecture")
        if template.count("{}") != 1:
            raise UsageError(f"template={template!r} must have {{}} once, where the name of a class goes")
        count = _number_of(prompts, num_classes)
        scale = 1.0
        self.encoder: PromptEncoder | None = None
        if architecture is not None:
            network, settings = _rebuilt(architecture)
        else:
            model, settings = _published(str(weights))
            network, scale = _audio_part(model), model.logit_scale_a.exp().item()
        adapter = ClapAdapter(frontend, **settings)
        backbone = ClapBackbone(network, "from scratch" if weights is None else str(weights), adapter)
        super().__init__(
            frontend, adapter, backbone, partial(PromptHead, num_classes=count, scale=scale), windows=windows
        )
        self.architecture = {"audio": plain_config(network.config), "features": settings}
        self.template, self.prompts = template, None if prompts is None else tuple(prompts)
        if weights is not None:
            self.encoder = PromptEncoder(model, str(weights))
            if self.prompts is not None:
                self.ask(self.prompts)

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The prompts, where nothing else names the classes; None before they are known."""
        return self.prompts

    def name_classes(self, names: Sequence[str]) -> None:
        """Make the prompts of the names of the classes, in the order of the classes, unless they were given."""
        if self.prompts is None:
            self.ask([self.template.replace("{}", name.replace("_", " ")) for name in names])

    def ask(self, prompts: Sequence[str]) -> None:
        """Make these sentences the classes.

        Raises UsageError for another number of them than there are classes, and where the text network is not there.
        """
        if self.encoder is None:
            raise UsageError("this CLAP came without its text network, as from a bundle: build it from weights to ask")
        _number_of(prompts, len(self.head.text))
        self.prompts = tuple(prompts)
        self.head.text.copy_(self.encoder.encode(prompts))

    def _hear(self, spectrogram: Spectrogram) -> Evidence:
        return replace(super()._hear(spectrogram), prompts=self.head.text)

    def describe(self) -> ClassifierInfo:
        """As `AudioClassifier.describe`, with the `settings` that rebuild this network without its weights' folder."""
        info = super().describe()
        settings = {"architecture": self.architecture, "num_classes": info.num_classes}
        if self.prompts is not None:
            settings["prompts"] = list(self.prompts)
        return replace(info, settings=settings)


def _number_of(prompts: Sequence[str] | None, num_classes: int | None) -> int:
    """K. Raises UsageError where the two do not agree, and for prompts that are not different sentences."""
    if prompts is None:
        if num_classes is None:
            raise UsageError("give CLAP prompts, or num_classes where its prompts are made of names of classes")
        return num_classes
    if isinstance(prompts, str) or len(set(prompts)) != len(prompts) or not all(map(_is_sentence, prompts)):
        raise UsageError(f"prompts={prompts!r} must be a list of different sentences, one for each class")
    if num_classes is not None and num_classes != len(prompts):
        raise UsageError(
            f"there are {len(prompts)} prompts and num_classes={num_classes}: give a prompt for each class, in the "
            "order of the classes"
        )
    return len(prompts)


def _is_sentence(prompt: object) -> bool:
    return isinstance(prompt, str) and prompt.strip() != ""


def _published(weights: str) -> tuple[ClapModel, dict]:
    """The whole network and the settings of its extractor."""
    check_allowed(weights)
    try:
        check_reachable(weights)
        said = AutoFeatureExtractor.from_pretrained(weights).to_dict()
        model, report = ClapModel.from_pretrained(weights, dtype=torch.float32, output_loading_info=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"weights={weights!r} could not be loaded ({str(error).splitlines()[0]}): give the hub name or the folder "
            "of a CLAP of transformers, such as laion/clap-htsat-unfused"
        ) from error
    if said["feature_extractor_type"] != EXTRACTOR:
        raise UsageError(f"{weights} hears through {said['feature_extractor_type']}, not {EXTRACTOR}")
    missing = sorted({name for name, _ in model.named_parameters()} & set(report["missing_keys"]))
    if missing:
        raise UsageError(f"weights={weights!r} lack {len(missing)} tensors such as {missing[0]}")
    return model, {name: said[name] for name in SETTINGS}


def _audio_part(model: ClapModel) -> ClapAudioModelWithProjection:
    """The audio network with its projection, its weights those of the whole."""
    network = ClapAudioModelWithProjection(model.config.audio_config)
    network.audio_model, network.audio_projection = model.audio_model, model.audio_projection
    return network


def _rebuilt(architecture: dict) -> tuple[ClapAudioModelWithProjection, dict]:
    """The audio network of an `architecture`, with random weights. What its configuration does not know is ignored."""
    try:
        said, settings = architecture["audio"], architecture["features"]
        known = plain_config(ClapAudioConfig())
        config = ClapAudioConfig(**{key: said[key] for key in known if key in said})
        return ClapAudioModelWithProjection(config), {name: settings[name] for name in SETTINGS}
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"architecture is not one that a CLAP has: {str(error)[:200]}") from error
