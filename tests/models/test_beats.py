"""BEATs: SpeechBrain's whole model as the reference, published checkpoints, and where its maps lie."""

import functools

import pytest
import speechbrain.lobes.models.beats as reference
import torch
from torch import nn

from models.beats import PUBLISHED, SIZES, BEATs, BeatsAdapter
from models.classifier import AudioClassifier
from models.conformance import check_classifier
from models.frontend import FrontEnd
from tests.helpers import refusal

CFG = PUBLISHED | SIZES["nano"]


def drawn() -> BEATs:
    """A small network whose every tensor is drawn, biases and norms too."""
    torch.manual_seed(0)
    network = BEATs("nano").eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return network


def checkpoint(path, network: nn.Module, **changes):
    """A file as Microsoft publishes them: settings and tensors."""
    torch.save({"cfg": CFG | changes, "model": network.state_dict()}, path)
    return path


class Unmixed(nn.Module):
    """An encoder that leaves its tokens [B, T, C] as they are, in each of four layers."""

    def forward(self, tokens, output_all_hiddens):
        return tokens, [tokens.transpose(0, 1)] * 5


@pytest.fixture
def classifier() -> AudioClassifier:
    frontend = FrontEnd()
    head = functools.partial(nn.Linear, out_features=5)
    return AudioClassifier(frontend, BeatsAdapter(frontend), drawn(), head)


def test_the_tokens_are_those_of_speechbrain_s_model(tmp_path, classifier):
    theirs = reference.BEATs(str(checkpoint(tmp_path / "beats.pt", classifier.backbone))).eval()
    spectrogram = classifier.frontend.analyze(0.3 * torch.randn(2, 30000))
    waveform = classifier.frontend.synthesize(spectrogram)
    with torch.no_grad():
        (tokens,) = theirs.extract_features(waveform, torch.ones(2))[:1]
        ours = classifier.backbone(classifier.adapter(spectrogram))
    assert tokens.shape == (2, 11 * 8, 48)  # 186 frames hold 11 patches
    torch.testing.assert_close(ours.embedding, tokens.mean(dim=1), rtol=1e-4, atol=1e-5)
    as_tokens = ours.maps[-1].flatten(2).transpose(1, 2)
    torch.testing.assert_close(as_tokens, tokens, rtol=1e-4, atol=1e-5)


def test_the_base_size_has_the_published_number_of_parameters():
    network = BEATs("base")
    assert sum(parameter.numel() for parameter in network.parameters()) == 90_311_792  # "90M", table 1 of the paper


def test_rows_of_maps_run_along_time_and_columns_along_mel():
    network = drawn()
    network.encoder = Unmixed()
    image = torch.zeros(1, 64, 128)
    silence = network(image).maps[0]
    image[0, 48:64, 16:32] = 1  # the patch of row 3, column 1
    changed = (network(image).maps[0] - silence).abs().sum(dim=1)[0]
    assert changed.shape == (4, 8)
    assert changed.nonzero().tolist() == [[3, 1]]


def test_a_published_checkpoint_is_loaded_whole_without_its_predictor(tmp_path):
    network = drawn()
    path = checkpoint(tmp_path / "beats.pt", network, finetuned_model=True)
    content = torch.load(path, weights_only=True)
    content["model"] |= {"predictor.weight": torch.zeros(527, 48), "predictor.bias": torch.zeros(527)}
    torch.save(content, path)
    loaded = BEATs("nano", str(path))
    assert loaded.provenance == str(path)
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in loaded.state_dict().items())


def test_other_checkpoints_are_refused(tmp_path):
    network = drawn()
    path = checkpoint(tmp_path / "other.pt", network, max_distance=1280, gru_rel_pos=False)
    assert refusal(BEATs, "nano", str(path)) == (
        f"weights='{path}' are of a BEATs with max_distance=1280, gru_rel_pos=False, and none such is built here"
    )
    assert "are of a BEATs with encoder_layers=4" in refusal(BEATs, "base", str(checkpoint(path, network)))
    del network.layer_norm
    assert "are not those of a BEATs of size nano" in refusal(BEATs, "nano", str(checkpoint(path, network)))
    assert refusal(BEATs, "nano", str(tmp_path / "absent.pt")) == f"no checkpoint {tmp_path / 'absent.pt'}"
    assert refusal(BEATs, "large") == "size='large' is not one of nano, base"


def test_it_conforms_and_hears_any_length(classifier):
    assert check_classifier(classifier) == []
    info = classifier.describe()
    assert (info.map_channels, info.mel_top, info.provides) == ((48,) * 4, 8000.0, {"maps", "gradient"})
    short = classifier(classifier.frontend.analyze(torch.randn(1, 400)))
    assert short.features.maps[0].shape == (1, 48, 1, 8)
