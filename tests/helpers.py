"""Small functions that tests of several rooms share."""

import string
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from tokenizers.models import BPE
from torch import nn
from transformers import ClapConfig, ClapFeatureExtractor, ClapModel, PreTrainedTokenizerFast

from models.classifier import ClassifierInfo, Evidence, Features
from models.errors import UsageError
from models.frontend import FrontEnd


def refusal(call: Callable, *args: object, **options: object) -> str:
    """The sentence of the UsageError with which a call refuses its arguments."""
    with pytest.raises(UsageError) as caught:
        call(*args, **options)
    return str(caught.value)


def scattered(shape: torch.Size, seed: int) -> torch.Tensor:
    """Numbers in [-1, 1) that look random and that any library can compute."""
    place = torch.arange(shape.numel(), dtype=torch.float64)
    return (2 * (43758.5453 * torch.sin(12.9898 * place + seed)).remainder(1) - 1).float().reshape(shape)


class Conforming(nn.Module):
    """The smallest classifier that may stand in: two maps, a native map, three classes; no AudioClassifier."""

    def __init__(self):
        super().__init__()
        self.frontend = FrontEnd(8000, 256, 32, 16)
        self.conv, self.head = nn.Conv2d(1, 4, 3, padding=1), nn.Linear(4, 3)

    def forward(self, spectrogram):
        fine = self.conv(F.adaptive_avg_pool2d(spectrogram.log_magnitude.unsqueeze(1), (8, 4))).relu()
        coarse = F.avg_pool2d(fine, 2)
        embedding = coarse.mean(dim=(2, 3))
        features = Features(embedding, (fine, coarse), coarse.mean(dim=1, keepdim=True))
        return Evidence(self.head(embedding), features)

    def freeze(self):
        return self.eval().requires_grad_(False)

    def describe(self):
        return ClassifierInfo(3, 8000, 256, (4, 4), frozenset({"gradient", "maps", "native_map"}))


CLAP_SECONDS = 5
"""What `save_tiny_clap` hears at most."""


def save_tiny_clap(folder: Path, truncation: str = "rand_trunc", padding: str = "repeatpad") -> Path:
    """A checkpoint folder of a small CLAP with random weights, its extractor and a tokenizer of characters."""
    audio = {
        "spec_size": 128, "num_mel_bins": 32, "window_size": 4, "depths": [2, 1, 1], "num_attention_heads": [2, 2, 4],
        "patch_embeds_hidden_size": 16, "hidden_size": 64, "enable_fusion": truncation == "fusion",
    }  # fmt: skip
    text = {
        "vocab_size": 128, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 32, "max_position_embeddings": 80,
    }  # fmt: skip
    torch.manual_seed(0)
    model = ClapModel(ClapConfig(text_config=text, audio_config=audio, projection_dim=24, logit_scale_init_value=20.0))
    for name, parameter in model.named_parameters():
        if name.endswith("weight") and parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)  # answers that differ from clip to clip
    model.save_pretrained(folder)
    ClapFeatureExtractor(
        feature_size=32, max_length_s=CLAP_SECONDS, frequency_min=50, truncation=truncation, padding=padding
    ).save_pretrained(folder)
    characters = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}
    for character in string.ascii_letters + " .,_":
        characters[character] = len(characters)
    tokenizer = Tokenizer(BPE(vocab=characters, merges=[], unk_token="<unk>"))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>").save_pretrained(folder)
    return folder
