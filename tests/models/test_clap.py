"""CLAP: its extractor's numbers in torch, its own answers to prompts, and maps that lie where the sound is."""

from pathlib import Path

import pytest
import torch
from helpers import CLAP_SECONDS, refusal, save_tiny_clap
from transformers import AutoTokenizer, ClapFeatureExtractor, ClapModel

from interpreters.gradients import Gradient
from interpreters.perturbation import Perturbation
from models.clap import ClapClassifier
from models.classifier import Evidence
from models.conformance import check_classifier
from models.frontend import FrontEnd

RATE = 48000
PROMPTS = ["This is a sound of dog.", "This is a sound of sea waves.", "rain"]


@pytest.fixture(scope="module", params=["rand_trunc", "fusion"])
def folder(request, tmp_path_factory) -> Path:
    return save_tiny_clap(tmp_path_factory.mktemp("hub") / request.param, request.param)


def classifier_of(folder: Path, rate: int = RATE, **options) -> ClapClassifier:
    options = {"prompts": PROMPTS} | options
    return ClapClassifier(FrontEnd(rate, 2048), str(folder), **options).freeze()


def noise(seconds: float, clips: int = 2, rate: int = RATE) -> torch.Tensor:
    level = torch.linspace(0.3, 1, round(seconds * rate))
    return 0.1 * level * torch.randn(clips, len(level))


def extracted(folder: Path, sounds: torch.Tensor, **options) -> torch.Tensor:
    """[B, channels, frames, mels] as transformers' extractor gives them."""
    extractor = ClapFeatureExtractor.from_pretrained(folder, **options)
    return extractor(list(sounds.numpy()), sampling_rate=RATE, return_tensors="pt")["input_features"].float()


@pytest.mark.parametrize("seconds", [0.4, 1.37, 2.5, 5.0])
def test_the_features_are_the_extractors_number_by_number(folder, seconds):
    classifier = classifier_of(folder)
    sounds = noise(seconds)
    features = classifier.adapter(classifier.frontend.analyze(sounds)).mel
    expected = extracted(folder, sounds)
    assert expected.shape == (2, 4 if folder.name == "fusion" else 1, 501, 32)
    assert features.shape == (2, 1, 501, 32)
    torch.testing.assert_close(features.expand_as(expected), expected, atol=2e-3, rtol=1e-4)


@pytest.mark.parametrize("padding", ["repeat", "pad"])
def test_the_other_ways_of_padding_are_the_extractors_too(tmp_path, padding):
    folder = save_tiny_clap(tmp_path / "clap", padding=padding)
    classifier = classifier_of(folder)
    sounds = noise(1.7)
    features = classifier.adapter(classifier.frontend.analyze(sounds)).mel
    torch.testing.assert_close(features, extracted(folder, sounds), atol=2e-3, rtol=1e-4)


def test_the_two_truncations_hear_through_other_filters(tmp_path):
    sounds = noise(1.0)
    heard = []
    for truncation in ("rand_trunc", "fusion"):
        classifier = classifier_of(save_tiny_clap(tmp_path / truncation, truncation))
        heard.append(classifier.adapter(classifier.frontend.analyze(sounds)).mel)
    assert (heard[0] - heard[1]).abs().mean() > 1


@pytest.mark.parametrize("seconds", [1.0, 5.0])
def test_it_answers_as_transformers_does(folder, seconds):
    """Where transformers is told that no clip is longer; by itself it calls one of each batch so, at random."""
    sounds, classifier = noise(seconds, 3), classifier_of(folder)
    model = ClapModel.from_pretrained(folder).eval()
    tokens = AutoTokenizer.from_pretrained(folder)(PROMPTS, padding=True, return_tensors="pt")
    tokens = {name: tokens[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        expected = model(
            input_features=extracted(folder, sounds), is_longer=torch.zeros(3, 1, dtype=torch.bool), **tokens
        )
        evidence = classifier(classifier.frontend.analyze(sounds))
    assert expected.logits_per_audio.std(dim=0).min() > 1e-2  # clips and prompts matter
    assert expected.logits_per_audio.std(dim=1).min() > 1e-2
    torch.testing.assert_close(evidence.logits, expected.logits_per_audio, atol=2e-3, rtol=1e-3)
    torch.testing.assert_close(evidence.prompts, expected.text_embeds)
    assert classifier.describe().logit_scale == pytest.approx(20.0)


def test_it_conforms(folder):
    classifier = classifier_of(folder, rate=16000)
    assert check_classifier(classifier) == []
    offers = classifier.describe()
    assert offers.provides == {"gradient", "maps", "prompts"}
    assert (offers.num_classes, offers.prompt_size, offers.map_channels) == (3, 24, (16, 32, 64))
    assert (offers.provenance, offers.mel_top) == (str(folder), 14000)


def test_the_evidence_of_some_clips_and_of_joined_ones_keeps_the_prompts(folder):
    classifier = classifier_of(folder)
    evidence = classifier(classifier.frontend.analyze(noise(1.0, 3)))
    joined = Evidence.joined([evidence[:1], evidence[1:]])
    assert torch.equal(joined.prompts, evidence.prompts)
    assert torch.equal(joined.logits, evidence.logits)


def test_silence_has_a_finite_gradient(folder):
    classifier = classifier_of(folder)
    sound = torch.zeros(1, RATE, requires_grad=True)
    classifier(classifier.frontend.analyze(sound)).logits.sum().backward()
    assert sound.grad.isfinite().all()


def test_the_gradient_reaches_the_waveform_and_is_right(folder):
    """Against a difference quotient, from the waveform to a logit, in the direction of the gradient."""
    classifier = classifier_of(folder)
    sound = noise(1.0, 1).requires_grad_()

    def logit(waveform: torch.Tensor) -> torch.Tensor:
        return classifier(classifier.frontend.analyze(waveform)).logits[0, 0]

    (gradient,) = torch.autograd.grad(logit(sound), sound)
    assert gradient.norm() > 0
    step = 0.002 * sound.detach().norm() * gradient / gradient.norm()
    with torch.no_grad():
        change = (logit(sound + step / 2) - logit(sound - step / 2)).item()
    assert change == pytest.approx((gradient * step).sum().item(), rel=0.05)


def test_names_become_prompts(folder):
    named = classifier_of(folder, prompts=None, num_classes=3, template="the sound of {} outside")
    assert named.head.text.isnan().all()
    named.name_classes(["dog", "sea_waves", "rain"])
    listed = classifier_of(
        folder, prompts=["the sound of dog outside", "the sound of sea waves outside", "the sound of rain outside"]
    )
    assert named.prompts == listed.prompts
    assert torch.equal(named.head.text, listed.head.text)
    listed.name_classes(["a", "b", "c"])
    assert torch.equal(named.head.text, listed.head.text)  # prompts that were given stay
    listed.ask(["one", "two", "three"])
    assert listed.prompts == ("one", "two", "three")
    assert not torch.allclose(named.head.text, listed.head.text, atol=1e-3)


def test_columns_of_the_maps_are_time_and_rows_of_the_square_are_put_back(folder):
    """A burst late in the clip moves the maps late in time, whatever stretch of the square it fell into."""
    classifier = classifier_of(folder)
    sound = noise(5.0, 1)
    changed = sound.clone()
    burst = slice(round(3.5 * RATE), round(3.6 * RATE))
    changed[:, burst] += 2 * torch.randn(burst.stop - burst.start)
    with torch.no_grad():
        first, second = (classifier.adapter(classifier.frontend.analyze(x)) for x in (sound, changed))
        encoder = classifier.backbone.network.audio_model.audio_encoder
        squares = []
        for heard in (first, second):
            normalized = encoder.batch_norm(heard.mel.transpose(1, 3)).transpose(1, 3)
            patches = encoder.patch_embed(encoder.reshape_mel2img(normalized), [])  # [1, 32 x 32, C]
            squares.append(patches.transpose(1, 2).unflatten(2, (32, 32)))
        moved = classifier.backbone._in_time(squares[1] - squares[0], first.samples).abs().sum(dim=(0, 1))
    assert moved.shape == (128, 8)  # time, frequency
    place = (moved.sum(dim=1) * torch.arange(128)).sum() / moved.sum()
    assert place.item() == pytest.approx(128 * 3.55 / 5, abs=1)
    assert (moved.sum(dim=1) > 0.01 * moved.sum()).sum() <= 8


def test_the_repetitions_of_a_clip_are_averaged(folder):
    backbone = classifier_of(folder).backbone
    shares = backbone._shares(10, 2 * RATE)  # columns of half a second, two copies of 2 s, 1 s of silence
    expected = torch.zeros(4, 10)
    for row in range(4):
        expected[row, [row, row + 4]] = 0.5
    torch.testing.assert_close(shares, expected)
    odd = backbone._shares(10, round(1.2 * RATE))  # rows of 0.6 s in four copies
    assert odd.shape == (2, 10)
    torch.testing.assert_close(odd.sum(dim=1), torch.ones(2))
    torch.testing.assert_close(odd[0, :4], torch.tensor([0.5, 0.1, 0.3, 0.3]) / 2.4)


@pytest.mark.parametrize("method", ["gradient", "integrated_gradients", "grad_cam"])
def test_gradient_methods_explain_any_prompt(folder, method):
    classifier = classifier_of(folder)
    spectrogram = classifier.frontend.analyze(noise(1.0))
    evidence = classifier(spectrogram)
    interpreter = Gradient(classifier.describe(), method, samples=2)
    planes = [interpreter.importance(classifier, spectrogram, evidence, torch.full((2,), k)) for k in (0, 2)]
    assert planes[0].shape == spectrogram.log_magnitude.shape
    assert not torch.allclose(planes[0], planes[1])
    assert all(plane.isfinite().all() and plane.abs().max() > 0 for plane in planes)


def test_a_perturbation_method_explains_any_prompt(folder):
    classifier = classifier_of(folder)
    spectrogram = classifier.frontend.analyze(noise(1.0))
    interpreter = Perturbation(classifier.describe(), "occlusion")
    plane = interpreter.importance(classifier, spectrogram, classifier(spectrogram), torch.tensor([1, 2]))
    assert plane.isfinite().all() and plane.std() > 0


def test_longer_clips_are_refused_or_heard_in_windows(folder):
    told = refusal(classifier_of(folder), classifier_of(folder).frontend.analyze(noise(6.0)))
    assert "hears 5 s at most" in told and "--windows='{seconds: 5}'" in told
    windowed = classifier_of(folder, windows={"seconds": CLAP_SECONDS, "pooling": "mean_logit"})
    sound = noise(10.0, 1)
    spectrogram = windowed.frontend.analyze(sound)
    evidence = windowed(spectrogram)
    assert evidence.features.maps[0].shape == (1, 16, 256, 8)
    plane = Gradient(windowed.describe(), "grad_cam").importance(windowed, spectrogram, evidence)
    assert plane.shape == spectrogram.log_magnitude.shape and plane.max() > 0


def test_mistakes_are_told(folder, tmp_path):
    frontend = FrontEnd()
    assert "give CLAP weights" in refusal(ClapClassifier, frontend, num_classes=3)
    assert "nowhere' could not be loaded" in refusal(ClapClassifier, frontend, str(tmp_path / "nowhere"), PROMPTS)
    assert "give CLAP prompts, or num_classes" in refusal(ClapClassifier, frontend, str(folder))
    assert "must have {} once" in refusal(ClapClassifier, frontend, str(folder), template="a dog", num_classes=3)
    assert "3 prompts and num_classes=4" in refusal(ClapClassifier, frontend, str(folder), PROMPTS, num_classes=4)
    assert "list of different sentences" in refusal(ClapClassifier, frontend, str(folder), ["rain", "rain"])
    assert "list of different sentences" in refusal(ClapClassifier, frontend, str(folder), "rain")
    assert "architecture is not one" in refusal(ClapClassifier, frontend, prompts=PROMPTS, architecture={"audio": {}})
    assert "2 prompts and num_classes=3" in refusal(classifier_of(folder).ask, PROMPTS[:2])
    settings = classifier_of(folder).describe().settings
    assert "came without its text network" in refusal(ClapClassifier(frontend, **settings).ask, PROMPTS)
