"""Hugging Face's audio classifiers: their extractors' numbers in torch, their own answers, maps where the sound is."""

import functools
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    ASTForAudioClassification,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForSequenceClassification,
    WhisperFeatureExtractor,
)

from interpreters.decoders import LightDecoder
from interpreters.lmac import LMAC
from interpreters.maps import QuantileMap
from models.bundle import BundleInfo, load_bundle, save_bundle
from models.conformance import check_classifier
from models.errors import UsageError
from models.frontend import FrontEnd
from models.huggingface import HuggingFaceClassifier, WaveAdapter
from recipes.config.recipe import load_recipe

HPARAMS = Path(__file__).parents[2] / "hparams"
LABELS = ("Speech", "Dog", "Rain")
NAMES = {"id2label": dict(enumerate(LABELS)), "label2id": {name: k for k, name in enumerate(LABELS)}}
SMALL = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 32} | NAMES


@pytest.fixture(scope="module")
def ast_folder(tmp_path_factory) -> Path:
    """A checkpoint of a tiny Audio Spectrogram Transformer as the hub holds it, for at most 5.12 s."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("hub") / "ast"
    network = ASTForAudioClassification(ASTConfig(max_length=512, **SMALL))
    torch.nn.init.normal_(network.audio_spectrogram_transformer.embeddings.position_embeddings)
    network.save_pretrained(folder)
    ASTFeatureExtractor(max_length=512, mean=-4.0, std=3.0).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def wav2vec_folder(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("hub") / "wav2vec2"
    config = Wav2Vec2Config(
        conv_dim=(16,) * 3, conv_stride=(10, 8, 4), conv_kernel=(20, 8, 4), num_feat_extract_layers=3,
        num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4, classifier_proj_size=8, **SMALL,
    )  # fmt: skip
    Wav2Vec2ForSequenceClassification(config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=["ast", "wav2vec2"])
def folder(request, ast_folder, wav2vec_folder) -> Path:
    return {"ast": ast_folder, "wav2vec2": wav2vec_folder}[request.param]


def noise(seconds: float, clips: int = 2) -> torch.Tensor:
    return 0.1 * torch.randn(clips, round(16000 * seconds))


def own_answer(folder: Path, sounds: torch.Tensor) -> torch.Tensor:
    """Logits as the documentation of transformers computes them."""
    network, extractor = {
        "ast": (ASTForAudioClassification, ASTFeatureExtractor),
        "wav2vec2": (Wav2Vec2ForSequenceClassification, Wav2Vec2FeatureExtractor),
    }[folder.name]
    inputs = extractor.from_pretrained(folder)(list(sounds.numpy()), sampling_rate=16000, return_tensors="pt")
    with torch.no_grad():
        return network.from_pretrained(folder)(inputs["input_values"]).logits


@pytest.mark.parametrize("seconds", [1.0, 1.37, 5.0])
def test_an_untouched_classifier_answers_as_transformers_does(folder, seconds):
    classifier = HuggingFaceClassifier(FrontEnd(), str(folder)).freeze()
    sounds = noise(seconds)
    evidence = classifier(classifier.frontend.analyze(sounds))
    torch.testing.assert_close(evidence.logits, own_answer(folder, sounds), atol=1e-4, rtol=1e-4)
    assert classifier.class_names == LABELS
    torch.testing.assert_close(classifier.head(evidence.features.embedding), evidence.logits)


def test_the_wave_is_float32_also_under_autocast():
    adapter = WaveAdapter(FrontEnd(), 8000, do_normalize=True)
    spectrogram = adapter.frontend.analyze(noise(1.0))
    with torch.autocast("cpu", torch.bfloat16):
        under = adapter(spectrogram)
    assert torch.equal(under, adapter(spectrogram))


def test_the_filter_bank_is_the_extractors_number_by_number(ast_folder):
    sounds = noise(1.0)
    expected = ASTFeatureExtractor.from_pretrained(ast_folder)(
        list(sounds.numpy()), sampling_rate=16000, return_tensors="pt"
    )["input_values"]
    classifier = HuggingFaceClassifier(FrontEnd(), str(ast_folder))
    found = classifier.adapter(classifier.frontend.analyze(sounds))
    assert found.shape == (2, 98, 128)
    torch.testing.assert_close(found, expected[:, :98], atol=2e-3, rtol=1e-3)
    assert torch.allclose(expected[:, 98:], torch.tensor(classifier.adapter.silence))


def test_they_conform(folder):
    assert check_classifier(HuggingFaceClassifier(FrontEnd(), str(folder))) == []
    offers = HuggingFaceClassifier(FrontEnd(), str(folder), num_classes=7).describe()
    assert offers.num_classes == 7 and offers.provenance == str(folder)
    assert ("native_map" in offers.provides) == (folder.name == "ast")
    assert offers.map_channels == (32,) * 4


def test_another_rate_hears_the_same_sound(ast_folder):
    """44.1 kHz: resampled, and nothing above 8 kHz is shown as heard."""
    high = HuggingFaceClassifier(FrontEnd(44100, 2048), str(ast_folder)).freeze()
    low = HuggingFaceClassifier(FrontEnd(), str(ast_folder)).freeze()
    tone = 0.3 * torch.sin(2 * torch.pi * 700 * torch.arange(44100) / 44100)[None]
    same = 0.3 * torch.sin(2 * torch.pi * 700 * torch.arange(16000) / 16000)[None]
    first, second = (c.adapter(c.frontend.analyze(sound)) for c, sound in ((high, tone), (low, same)))
    loud = second > second.max() - 1
    assert loud.any() and (first[:, : second.shape[1]] - second)[loud].abs().max() < 0.05
    native_map = high(high.frontend.analyze(tone)).features.native_map
    assert native_map.shape[3] == 1025
    assert native_map[..., 373:].abs().max() == 0 and native_map[..., :370].min() > 0


def test_a_ridge_in_mel_is_a_ridge_at_its_frequency(ast_folder):
    """All attention on the patches of one row lands at the frequency of the row's middle."""
    backbone = HuggingFaceClassifier(FrontEnd(), str(ast_folder)).backbone
    assert backbone.linear.shape == (12, 513)
    torch.testing.assert_close(backbone.linear.sum(dim=0), torch.ones(513))
    low, high = (1127 * np.log1p(f / 700) for f in (20, 8000))
    for row in (3, 8):
        mel = low + (10 * row + 7.5 + 1) * (high - low) / 129
        assert abs(int(backbone.linear[row].argmax()) * 16000 / 1024 - 700 * np.expm1(mel / 1127)) < 16


def test_maps_lie_along_time_and_leave_padding_out(ast_folder):
    classifier = HuggingFaceClassifier(FrontEnd(), str(ast_folder)).freeze()
    sound = noise(2.0, 1)
    changed = sound.clone()
    changed[:, 28000:] += noise(0.25, 1)
    images = (classifier.adapter(classifier.frontend.analyze(one)) for one in (sound, changed))
    padded = [torch.nn.functional.pad(image, (0, 0, 0, 512 - 198)) for image in images]
    first, second = map(classifier.backbone.model.base_model.embeddings, padded)
    moved = classifier.backbone._as_map(second - first, 198).abs().amax(dim=(0, 1, 3))
    assert moved.shape == (19,) and moved[:15].max() < 1e-5 and moved[16:].min() > 1e-3
    native_map = classifier(classifier.frontend.analyze(sound)).features.native_map
    assert native_map.shape == (1, 1, 19, 513) and native_map.min() >= 0 and native_map[:, :, :, 0].sum() < 1


@pytest.mark.parametrize("which", ["lmac", "map"])
def test_interpreters_explain_them(folder, which):
    classifier = HuggingFaceClassifier(FrontEnd(), str(folder)).freeze()
    offers = classifier.describe()
    # the columns of AST's maps are mel bands, and a network on waveforms has none
    assert offers.mel_top == (None if folder.name == "wav2vec2" else 8000.0)
    if which == "map" and folder.name == "wav2vec2":
        with pytest.raises(UsageError, match="needs native_map of a classifier, and this one has no native_map"):
            QuantileMap(offers)
        return
    spectrogram = classifier.frontend.analyze(noise(1.0))
    evidence = classifier(spectrogram)
    if which == "map":
        found = QuantileMap(offers, 0.9).interpret(classifier, spectrogram, evidence)
        assert found.mask.mean() == pytest.approx(0.1, abs=0.02)
        return
    interpreter = LMAC(info=offers, decoder=functools.partial(LightDecoder, width=16))
    sum(interpreter.loss(classifier, spectrogram, evidence).values()).mean().backward()
    gradients = [parameter.grad for parameter in interpreter.parameters() if parameter.requires_grad]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)
    assert sum(gradient.abs().sum() for gradient in gradients) > 0
    assert interpreter.interpret(classifier, spectrogram, evidence).mask.shape == (2, 87, 513)


def test_a_bundle_holds_the_whole_network_and_no_path(folder, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "seed: 1\nmodel:\n  classifier: !new:models.huggingface.HuggingFaceClassifier\n"
        f"    frontend: !new:models.frontend.FrontEnd\n    weights: {folder}\n"
        "    num_classes: null\n    architecture: null\n"
    )
    recipe = load_recipe([str(recipe)])
    classifier = recipe.build()["model"]["classifier"]
    block = recipe.block("model", classifier.describe().settings)
    assert str(folder) not in block
    save_bundle(tmp_path / "classifier", classifier, block, BundleInfo("classifier", LABELS, 16000, 1.0))
    loaded = load_bundle(tmp_path / "classifier", "classifier").network
    spectrogram = loaded.frontend.analyze(noise(1.0))
    assert torch.equal(loaded(spectrogram).logits, classifier.eval()(spectrogram).logits)
    assert loaded.describe().settings == classifier.describe().settings


@pytest.mark.parametrize("head, blocks", [("linear", 0), ("cosine", 1)])
def test_another_head_takes_the_place_of_its_own(folder, head, blocks, tmp_path):
    changes = [f"--weights={folder}", "--num_classes=5", f"--head={head}", f"--head_blocks={blocks}"]
    recipe = load_recipe([str(HPARAMS / "ast.yaml"), "--data_folder=none", *changes])
    classifier = recipe.build()["model"]["classifier"].eval()
    sounds = classifier.frontend.analyze(noise(1.0))
    evidence = classifier(sounds)
    own = HuggingFaceClassifier(FrontEnd(), str(folder)).eval()(sounds)
    torch.testing.assert_close(evidence.features.embedding, own.features.embedding)
    if head == "linear":
        expected = evidence.features.embedding @ classifier.head.weight.T + classifier.head.bias
        torch.testing.assert_close(evidence.logits, expected)
    else:
        assert evidence.logits.abs().max() <= 30 and classifier.describe().logit_scale == 30
    assert check_classifier(classifier) == []
    block = recipe.block("model", classifier.describe().settings)
    save_bundle(tmp_path / "classifier", classifier, block, BundleInfo("classifier", tuple("abcde"), 16000, 1.0))
    loaded = load_bundle(tmp_path / "classifier", "classifier").network.eval()
    torch.testing.assert_close(loaded(sounds).logits, evidence.logits)


def test_another_head_needs_classes_and_a_known_name(folder):
    with pytest.raises(UsageError, match="head=linear is a new one for num_classes classes: pass num_classes, or"):
        HuggingFaceClassifier(FrontEnd(), str(folder), head="linear")
    with pytest.raises(UsageError, match="head='mine' is not one of own, cosine, linear"):
        HuggingFaceClassifier(FrontEnd(), str(folder), head="mine")


def test_mistakes_are_told(folder, tmp_path):
    with pytest.raises(UsageError, match="give a Hugging Face classifier weights"):
        HuggingFaceClassifier(FrontEnd())
    with pytest.raises(UsageError, match=r"nowhere' could not be loaded .*: give the hub name or the folder"):
        HuggingFaceClassifier(FrontEnd(), str(tmp_path / "nowhere"))
    with pytest.raises(UsageError, match="architecture is not one"):
        HuggingFaceClassifier(FrontEnd(), architecture={"model": {"model_type": "bert"}, "features": {}}, num_classes=2)
    with pytest.raises(UsageError, match="architecture is not one"):
        HuggingFaceClassifier(FrontEnd(), architecture={"model": {"model_type": "nothing"}}, num_classes=2)
    ASTForAudioClassification(ASTConfig(max_length=128, **SMALL)).save_pretrained(tmp_path / "whisper")
    WhisperFeatureExtractor().save_pretrained(tmp_path / "whisper")
    with pytest.raises(UsageError, match="hears through WhisperFeatureExtractor, not one of ASTFeatureExtractor"):
        HuggingFaceClassifier(FrontEnd(), str(tmp_path / "whisper"))


def test_a_sound_longer_than_the_network_hears_is_refused(ast_folder):
    classifier = HuggingFaceClassifier(FrontEnd(), str(ast_folder))
    with pytest.raises(UsageError, match=r"hears 5\.12 s at most: set clip_seconds"):
        classifier(classifier.frontend.analyze(noise(6.0, 1)))


def test_a_network_without_its_head_needs_classes(ast_folder, tmp_path):
    network = ASTForAudioClassification.from_pretrained(ast_folder)
    network.audio_spectrogram_transformer.save_pretrained(tmp_path / "body")
    ASTFeatureExtractor.from_pretrained(ast_folder).save_pretrained(tmp_path / "body")
    with pytest.raises(UsageError, match=r"lack \d tensors such as classifier\..*: pass num_classes"):
        HuggingFaceClassifier(FrontEnd(), str(tmp_path / "body"))
    assert HuggingFaceClassifier(FrontEnd(), str(tmp_path / "body"), 4).describe().num_classes == 4
