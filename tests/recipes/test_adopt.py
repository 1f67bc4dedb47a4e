"""Adopting published classifiers: the class order is the one thing that may silently go wrong."""

from pathlib import Path

import pytest
import torch
from recipe_files import HPARAMS, TINY
from transformers import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification

from models.adapters import ImageAdapter
from models.bundle import read_facts
from models.classifier import AudioClassifier, CosineHead
from models.errors import UsageError
from models.focalnet import FocalNet
from models.frontend import FrontEnd
from models.huggingface import HuggingFaceClassifier
from recipes.adopt import adopt, main, read_label_encoder, reorder_head
from recipes.config.recipe import load_recipe
from recipes.data.metadata import read_corpus
from recipes.runs.subject import load_subject


def test_label_encoder_is_read_in_its_own_order(tmp_path):
    path = tmp_path / "label_encoder.txt"
    path.write_text("'rain' => 1\n'dog' => 0\n'sea waves' => 2\n================\n'starting_index' => 0\n")
    assert read_label_encoder(path) == ("dog", "rain", "sea waves")


@pytest.mark.parametrize("text", ["", "'dog' => 1\n", "'dog' => 0\n'cat' => 2\n"])
def test_label_encoder_with_gaps_is_refused(tmp_path, text):
    path = tmp_path / "label_encoder.txt"
    path.write_text(text)
    with pytest.raises(UsageError, match="does not number its classes"):
        read_label_encoder(path)


def test_logits_follow_their_names_into_the_official_order():
    torch.manual_seed(0)
    classifier = AudioClassifier(
        FrontEnd(), ImageAdapter(32), FocalNet("nano", drop_path=0.0), lambda size: CosineHead(size, 3, 1)
    ).eval()
    spectrogram = classifier.frontend.analyze(torch.randn(2, 8000))
    before = classifier(spectrogram).logits
    reorder_head(classifier, ("rain", "dog", "cat"), ("cat", "dog", "rain"))
    assert torch.equal(classifier(spectrogram).logits, before[:, [2, 1, 0]])
    with pytest.raises(UsageError, match="differ in bird, rain"):
        reorder_head(classifier, ("rain", "dog", "cat"), ("cat", "dog", "bird"))


def test_a_classifier_from_hugging_face_is_adopted_with_its_own_classes(tmp_path, capsys):
    labels = ("Speech", "Dog", "Rain")
    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    config = ASTConfig(max_length=128, id2label=dict(enumerate(labels)), **size)
    ASTForAudioClassification(config).save_pretrained(tmp_path / "published")
    ASTFeatureExtractor(max_length=128).save_pretrained(tmp_path / "published")
    main([str(tmp_path / "published"), str(tmp_path / "run"), "--clip_seconds=1.28"])
    assert capsys.readouterr().out == f"bundle: {tmp_path / 'run/classifier'}\n"
    subject = load_subject(tmp_path / "run/classifier", "cpu")
    assert (subject.info.class_names, subject.info.clip_seconds) == (labels, 1.28)
    assert subject.offers.provides == {"maps", "native_map", "gradient"}
    spectrogram = subject.classifier.frontend.analyze(torch.randn(1, 16000))
    published = HuggingFaceClassifier(FrontEnd(), str(tmp_path / "published")).freeze()
    torch.testing.assert_close(subject.classifier(spectrogram).logits, published(spectrogram).logits)


@pytest.fixture
def published(arguments, corpus, tmp_path) -> Path:
    """A checkpoint folder as SpeechBrain publishes them, its classes in the reverse of the data set's order."""
    recipe = load_recipe(arguments(TINY, tmp_path))
    classifier = recipe.build()["model"]["classifier"]
    folder = tmp_path / "tiny-esc50"
    folder.mkdir()
    torch.save(classifier.backbone.model.state_dict(), folder / "embedding_model.ckpt")
    torch.save(classifier.head.classifier.state_dict(), folder / "classifier.ckpt")
    names = read_corpus(corpus).class_names[::-1]
    (folder / "label_encoder.txt").write_text("".join(f"'{name}' => {k}\n" for k, name in enumerate(names)))
    return folder


def test_an_adopted_classifier_may_not_be_tested_on_the_folds_it_was_trained_on(
    published, arguments, interpret, tmp_path
):
    bundle = adopt(load_recipe(arguments(TINY, tmp_path)), published)
    folds = ("--test_folds=[1]", "--train_folds=[5]", "--valid_folds=[4]")
    with pytest.raises(UsageError, match=r"was trained on 20 of the 20 test clips here"):
        interpret(HPARAMS / "modulation.yaml", tmp_path, f"--classifier={bundle}", *folds)


def test_adopting_does_not_replace_another_classifier(published, arguments, tmp_path):
    recipe = load_recipe(arguments(TINY, tmp_path))
    bundle = adopt(recipe, published)
    assert adopt(recipe, published) == bundle  # the same again
    info = read_facts(bundle, "classifier")
    other = tmp_path / "other-esc50"
    published.rename(other)
    with pytest.raises(
        UsageError, match=r"holds another classifier already \(weights: SpeechBrain checkpoint tiny-esc50"
    ):
        adopt(recipe, other)
    assert read_facts(bundle, "classifier") == info


@pytest.mark.parametrize("arguments", [["one"], ["a", "b", "c"]])
def test_what_to_adopt_must_be_said(arguments):
    with pytest.raises(UsageError, match=r"usage: python -m recipes.adopt RECIPE.yaml FOLDER, or NAME RUN_FOLDER"):
        main(arguments)
    with pytest.raises(UsageError, match="'--clip_seconds=long' is not of the form --clip_seconds=10"):
        main(["name", "folder", "--clip_seconds=long"])
