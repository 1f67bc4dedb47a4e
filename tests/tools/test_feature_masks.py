"""The tool that puts masks on a MobileNet's own input: where cells and bins meet, and what is heard of them."""

import functools
import json

import pytest
import torch
from torch import nn

from models.classifier import AudioClassifier, Features
from models.frontend import FrontEnd
from models.mobilenet import PreemphasisMelAdapter
from recipes.scoring.fixed_area import Heard
from recipes.synthetic import make_corpus
from tests.helpers import refusal
from tools.feature_masks import PLACES, FeaturePlane, feature_importance, main, score_masks

SECONDS = 2.0


class BandMeans(nn.Module):
    """Two channels of the mel image, each band's mean over time: a backbone whose gradient can be written down."""

    embedding_size = 2 * 128

    def __init__(self):
        super().__init__()
        self.channels = nn.Conv2d(1, 2, 1)

    def forward(self, image):
        channels = self.channels(image)
        return Features(channels.mean(dim=3).flatten(1), (channels.transpose(2, 3),))


@pytest.fixture(scope="module")
def mel_network() -> AudioClassifier:
    torch.manual_seed(0)
    frontend = FrontEnd()
    head = functools.partial(nn.Linear, out_features=4)
    return AudioClassifier(frontend, PreemphasisMelAdapter(frontend), BandMeans(), head).freeze()


def heard_of(classifier: AudioClassifier, waveform: torch.Tensor) -> Heard:
    spectrogram = classifier.frontend.analyze(waveform)
    return Heard(spectrogram, classifier(spectrogram), {})


def test_cells_and_bins_meet_by_hand(mel_network):
    plane = FeaturePlane(mel_network, heard_of(mel_network, 0.1 * torch.randn(1, 32000)))
    assert plane.image.shape[1:3] == (1, 128)
    # peaks lie at k / 129 of log(1 + 15000 / 700): the 104th at 7852 Hz, the 105th at 8044 Hz
    assert plane.bands == 104 and plane.values.shape == (1, plane.image.shape[3], 104)
    # 1 kHz, bin 64, is at 36.8 of 129 spaces, between the peaks of bands 35 and 36 and nearer to the latter
    assert plane.band_of_bin[64] == 36 and plane.band_of_bin[0] == 0 and plane.band_of_bin[-1] == 103
    # frames of the STFT are 186 samples of 16 kHz apart, the network's 10 ms: frame 100 is at 1.1625 s
    assert plane.frame_of_frame[[0, 1, 100]].tolist() == [0, 1, 116]


def test_a_tone_is_loudest_in_the_cells_of_its_bin(mel_network):
    times = torch.arange(32000) / 16000
    heard = heard_of(mel_network, 0.3 * torch.sin(2 * torch.pi * 1000 * times)[None])
    plane = FeaturePlane(mel_network, heard)
    loudest = feature_importance("loudest", plane, heard)[0, 20:180].argmax(dim=1)
    assert (loudest - plane.band_of_bin[64]).abs().max() <= 1


def test_a_mask_of_ones_changes_nothing_and_one_of_zeros_leaves_silence(mel_network):
    heard = heard_of(mel_network, 0.1 * torch.randn(2, 32000))
    plane = FeaturePlane(mel_network, heard)
    ones = torch.ones_like(plane.values)
    torch.testing.assert_close(plane.logits(plane.masked(ones)), heard.evidence.logits)
    assert torch.equal(plane.on_stft(ones), torch.ones_like(heard.spectrogram.log_magnitude))
    scores = score_masks(plane, heard, ones, torch.ones_like(heard.spectrogram.log_magnitude))
    assert list(scores) == list(PLACES)
    for columns in scores.values():
        assert columns["fid_i"].tolist() == columns["share"].tolist() == [1, 1]
        assert columns["ad"].abs().max() < 1e-3
    silence = heard_of(mel_network, torch.zeros(1, 32000)).evidence.logits
    torch.testing.assert_close(plane.logits(plane.masked(0 * ones)), silence.expand(2, -1))
    assert (heard.evidence.logits - silence).abs().max() > 0.1
    assert plane.silence == pytest.approx((torch.log(torch.tensor(1e-5)).item() + 4.5) / 5)


def test_the_maps_of_the_features_by_hand(mel_network):
    heard = heard_of(mel_network, 0.1 * torch.randn(1, 32000))
    plane = FeaturePlane(mel_network, heard)
    weight = mel_network.head.weight[heard.evidence.prediction[0]].view(2, 128)
    gains = mel_network.backbone.channels.weight.flatten()
    frames = plane.values.shape[1]
    slope = (gains @ weight)[:104] / frames
    expected = (plane.values - plane.silence) * slope
    torch.testing.assert_close(feature_importance("input_x_gradient", plane, heard), expected)
    # Grad-CAM: the mean gradient of each channel, times the channel
    channels = mel_network.backbone.channels(plane.image)[0]
    cam = torch.einsum("c,cmt->tm", weight.mean(dim=1) / frames, channels).relu()
    torch.testing.assert_close(feature_importance("grad_cam", plane, heard)[0], cam[:, :104])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """What every call needs: a corpus of two-second clips, and the bundle of a MobileNet of random weights for it."""
    from recipes.classification import train_classifier
    from recipes.config.recipe import load_recipe

    folder = tmp_path_factory.mktemp("features")
    corpus = make_corpus(folder / "corpus", clips_per_class=5, seconds=SECONDS, mixtures=0)
    places = [f"--data_folder={corpus}", f"--cache_folder={folder}/cache", f"--output_folder={folder}", "--device=cpu"]
    step = ["--debug", "--debug_batches=1", "--debug_epochs=1", "--batch_size=2", "--num_classes=10", "--noprogressbar"]
    recipe = ["hparams/mobilenet_scratch.yaml", *step, *places, f"--clip_seconds={SECONDS}", "--precision=fp32"]
    return [*places, f"--classifier={train_classifier(load_recipe(recipe)) / 'classifier'}"]


def test_a_method_and_loudness_are_scored_at_every_place(trained, tmp_path, capsys):
    out = tmp_path / "masks.json"
    main(["hparams/input_x_gradient.yaml", *trained, "--clips=4", "--area=0.25", f"--out={out}"])
    result = json.loads(out.read_text())
    assert (result["clips"], result["area"], len(result["rows"])) == (4, 0.25, 2 * 2 * 3)
    for row in result["rows"]:
        if row["place"] != "features, heard":
            assert row["share"] == pytest.approx(0.25, abs=1e-3)
        assert ("differences" in row) == (row["place"] != "stft")
        assert row["intervals"]["fa"][0] <= row["fa"] <= row["intervals"]["fa"][1]
    features, stft = result["rows"][:2]
    assert features["differences"]["fa"] == pytest.approx(features["fa"] - stft["fa"], abs=2e-4)


def test_what_has_no_map_on_the_features_is_told(trained, cnn14):
    told = "hparams/smoothgrad.yaml is none of grad_cam, input_x_gradient, which have a map on the features"
    assert refusal(main, ["hparams/smoothgrad.yaml", *trained]) == told
    assert refusal(main, ["hparams/grad_cam.yaml", *trained, "--area=1"]) == "--area=1.0 must be above 0 and below 1"
    other = heard_of(cnn14.freeze(), torch.randn(1, 16000))
    told = "masks on features are made for the AudioSet MobileNets: give the bundle of one"
    assert refusal(FeaturePlane, cnn14, other) == told
