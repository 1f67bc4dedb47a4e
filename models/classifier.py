"""The classifier contract: Spectrogram in, Evidence out, whatever the network inside."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import torch
from speechbrain.lobes.models.ECAPA_TDNN import Classifier
from torch import Tensor, nn

from models.frontend import FrontEnd, Spectrogram
from models.labels import ONE_LABEL, Labels, labels_of
from models.windows import WindowMaps, Windows


@dataclass(frozen=True)
class Features:
    """What a backbone found in B clips.

    embedding: [B, D], the input of the head.
    maps: [B, C, h, w] feature maps, fine to coarse, with h along time and w along frequency; may be empty.
    native_map: [B, 1, h, w] non-negative importance by design (modulation or attention map), or None.
    windows: the maps of a clip's windows, where it was heard in windows and `maps` are joined from theirs.
    earlier_maps: [B, 1, h, w] each, the maps by design of the layers before the one of `native_map`, the first layer's
        first; may be empty.
    """

    embedding: Tensor
    maps: tuple[Tensor, ...] = ()
    native_map: Tensor | None = None
    windows: WindowMaps | None = None
    earlier_maps: tuple[Tensor, ...] = ()

    @property
    def layer_maps(self) -> tuple[Tensor, ...]:
        """The maps by design of all layers that have one, the last of which is `native_map`."""
        return self.earlier_maps if self.native_map is None else (*self.earlier_maps, self.native_map)

    @property
    def leading_maps(self) -> tuple[Tensor, ...]:
        """The maps that lead to the logits: `maps`, or those of the windows."""
        return self.maps if self.windows is None else self.windows.maps

    def joined(self, plane: Tensor) -> Tensor:
        """A plane that lies as one of `leading_maps` do, [N, C, h, w], as the clips' [B, C, h, w]."""
        return plane if self.windows is None else self.windows.join(plane)

    def __getitem__(self, clips: slice | Tensor) -> "Features":
        """The features of some of the clips."""
        native_map = None if self.native_map is None else self.native_map[clips]
        maps = tuple(feature_map[clips] for feature_map in self.maps)
        earlier_maps = tuple(earlier_map[clips] for earlier_map in self.earlier_maps)
        return Features(self.embedding[clips], maps, native_map, earlier_maps=earlier_maps)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Embedding, maps and, where there are such, the maps by design."""
        return (self.embedding, *self.maps, *self.layer_maps)


@dataclass(frozen=True)
class Evidence:
    """A classifier's answer for B clips and K classes: logits [B, K] and the features behind them.

    labels: what the logits mean. prompts: [K, D] the directions of length 1 of the classes' prompts in the space of
    the embeddings, where classes are prompts, or None.
    """

    logits: Tensor
    features: Features
    labels: Labels = ONE_LABEL
    prompts: Tensor | None = None

    def __getitem__(self, clips: slice | Tensor) -> "Evidence":
        """The evidence of some of the clips."""
        return Evidence(self.logits[clips], self.features[clips], self.labels, self.prompts)

    @staticmethod
    def joined(parts: Sequence["Evidence"]) -> "Evidence":
        """The evidence of several batches of equal clips, one batch after the other, in tensors of its own."""
        features = [part.features for part in parts]
        first = features[0]
        maps, earlier_maps = [], []
        for number in range(len(first.maps)):
            maps.append(torch.cat([part.maps[number] for part in features]))
        for number in range(len(first.earlier_maps)):
            earlier_maps.append(torch.cat([part.earlier_maps[number] for part in features]))
        native_map = None
        if first.native_map is not None:
            native_map = torch.cat([cast(Tensor, part.native_map) for part in features])
        embedding = torch.cat([part.embedding for part in features])
        logits = torch.cat([part.logits for part in parts])
        together = Features(embedding, tuple(maps), native_map, earlier_maps=tuple(earlier_maps))
        return replace(parts[0], logits=logits, features=together)

    @property
    def num_bytes(self) -> int:
        """Bytes of its tensors."""
        return self.logits.nbytes + sum(tensor.nbytes for tensor in self.features.tensors)

    @property
    def probabilities(self) -> Tensor:
        """[B, K] in float32."""
        return self.labels.probabilities(self.logits)

    @property
    def prediction(self) -> Tensor:
        """[B] index of the most probable class."""
        return self.logits.argmax(dim=1)

    def surprise(self, target: Tensor) -> Tensor:
        """[B] -log of the probability of the class asked about, target [B]."""
        return self.labels.surprise(self.logits, target)

    def log_odds(self, target: Tensor) -> Tensor:
        """[B] log(p / (1 - p)) of the class asked about, target [B], in nats."""
        return self.labels.log_odds(self.logits, target)

    def about(self, target: Tensor) -> Tensor:
        """[B, k] posterior over the alternatives to the target [B]."""
        return self.labels.about(self.probabilities, target)

    def answer(self, target: Tensor) -> Tensor:
        """[B] the target where the classifier hears it, else what it hears instead, or `labels.NO_CLASS`."""
        return self.labels.answer(self.probabilities, target)


@dataclass(frozen=True)
class ClassifierInfo:
    """What an interpreter may know about a classifier before it sees a clip.

    map_channels: C of each of `Features.maps`. provides: which of "maps", "native_map", "gradient" and "prompts" it
    offers. logit_scale: factor between the logits and raw cosines, 1 for an ordinary head. provenance: where its
    weights came from. mel_top: Hz at the upper end of the maps where their columns lie on a mel axis from 0 Hz, None
    where they lie evenly up to half the rate. map_name: what its native map shows, such as "modulation", None where it
    does not say. labels: what its logits mean. settings: arguments that its YAML left null and its weights decided; a
    bundle's YAML is completed with them. prompt_size: D of `Evidence.prompts`, None without. earlier_maps: how many
    layers before the one of its native map have such a map, too.
    """

    num_classes: int
    sample_rate: int
    n_fft: int
    map_channels: tuple[int, ...]
    provides: frozenset[str]
    logit_scale: float = 1.0
    provenance: str = "not stated"
    mel_top: float | None = None
    map_name: str | None = None
    labels: Labels = ONE_LABEL
    settings: dict = field(default_factory=dict)
    prompt_size: int | None = None
    earlier_maps: int = 0


class CosineHead(nn.Module):
    """Scaled cosine similarity to one vector a class (SpeechBrain's ECAPA `Classifier`), made for margin losses.

    The scale that the additive-margin loss trains with is part of the logits, so that their softmax is the
    posterior the network was trained for; a softmax of raw cosines over 50 classes never exceeds 0.13.
    """

    def __init__(self, input_size: int, num_classes: int, num_blocks: int = 0, scale: float = 30.0):
        super().__init__()
        self.classifier = Classifier(input_size, lin_blocks=num_blocks, out_neurons=num_classes)
        self.scale = scale

    def forward(self, embedding: Tensor) -> Tensor:
        """embedding [B, D] to logits [B, K] in [-scale, scale]."""
        return self.scale * self.classifier(embedding.unsqueeze(1)).squeeze(1)


class AudioClassifier(nn.Module):
    """Front end, adapter, backbone and head as one module.

    Arguments
    ---------
    frontend: FrontEnd that made the spectrograms.
    adapter: module, Spectrogram -> backbone input; may say its `mel_top`.
    backbone: module, backbone input -> Features, with `embedding_size` D; may say its weights' `provenance` and the
        `map_name` of its native map.
    head: called with D, returns the module embedding [B, D] -> logits [B, K].
    labels: what the logits mean: "one" of K classes (softmax), or "several" (a sigmoid each).
    windows: null, or how clips longer than the network takes are heard, as `models.windows.Windows.of` takes it.

    Any other module that takes a Spectrogram and returns Evidence, and has `frontend`, `describe` and `freeze`, may
    stand in its place: `models.conformance` checks one.

    Raises UsageError for other labels, and for windows that cannot be.
    """

    def __init__(
        self,
        frontend: FrontEnd,
        adapter: nn.Module,
        backbone: nn.Module,
        head: Callable[[int], nn.Module],
        labels: str = "one",
        windows: Mapping | None = None,
    ):
        super().__init__()
        self.labels = labels_of(labels)
        self.frontend, self.adapter, self.backbone = frontend, adapter, backbone
        self.head = head(cast(int, backbone.embedding_size))
        self.windows = Windows.of(windows)

    def forward(self, spectrogram: Spectrogram) -> Evidence:
        """Evidence for a batch of spectrograms."""
        if self.windows is None:
            return self._hear(spectrogram)
        return self.windows.hear(self._hear, self.frontend, spectrogram)

    def _hear(self, spectrogram: Spectrogram) -> Evidence:
        """Evidence for spectrograms that the network hears at once."""
        features = self.backbone(self.adapter(spectrogram))
        return Evidence(self.head(features.embedding), features, self.labels)

    def freeze(self) -> "AudioClassifier":
        """Evaluation mode and no gradient for any parameter, as every interpreter needs it; returns itself."""
        return self.eval().requires_grad_(False)

    @torch.no_grad()
    def describe(self) -> ClassifierInfo:
        """Measure what this classifier offers by a pass over one second of silence, without side effects."""
        modes = {module: module.training for module in self.modules()}
        device = next(self.parameters()).device
        try:
            evidence = self.eval()(self.frontend.analyze(torch.zeros(1, self.frontend.sample_rate, device=device)))
        finally:
            for module, mode in modes.items():
                module.training = mode
        features = evidence.features
        offered = {
            "gradient": True,
            "maps": bool(features.maps),
            "native_map": features.native_map is not None,
            "prompts": evidence.prompts is not None,
        }
        return ClassifierInfo(
            num_classes=evidence.logits.shape[1],
            sample_rate=self.frontend.sample_rate,
            n_fft=self.frontend.n_fft,
            map_channels=tuple(feature_map.shape[1] for feature_map in features.maps),
            provides=frozenset(ability for ability, is_offered in offered.items() if is_offered),
            logit_scale=self._logit_scale(),
            provenance=getattr(self.backbone, "provenance", ClassifierInfo.provenance),
            mel_top=getattr(self.adapter, "mel_top", ClassifierInfo.mel_top),
            map_name=getattr(self.backbone, "map_name", ClassifierInfo.map_name),
            labels=evidence.labels,
            prompt_size=None if evidence.prompts is None else evidence.prompts.shape[1],
            earlier_maps=len(features.earlier_maps),
        )

    def _logit_scale(self) -> float:
        """Between the logits and raw cosines; pooled probabilities have lost it."""
        keeps_logits = self.windows is None or self.windows.keeps_logits
        return cast(float, getattr(self.head, "scale", 1.0)) if keeps_logits else 1.0
