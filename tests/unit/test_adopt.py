"""Adopting published classifiers: the class order is the one thing that may silently go wrong."""

import pytest
import torch

from models.adapters import ImageAdapter
from models.classifier import AudioClassifier, CosineHead
from models.errors import UsageError
from models.focalnet import FocalNet
from models.frontend import FrontEnd
from recipes.adopt import read_label_encoder, reorder_head


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
