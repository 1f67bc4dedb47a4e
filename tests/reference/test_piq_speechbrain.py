"""PIQ against SpeechBrain's classes on equal weights: codes, masks, gradients, batch statistics and sizes."""

import pytest
import torch
from speechbrain.lobes.models.PIQ import (
    VectorQuantizedPSI_Audio,
    VectorQuantizedPSIFocalNet_Audio,
    VectorQuantizedPSIViT_Audio,
    get_irrelevant_regions,
)
from torch import nn

from interpreters.piq import PIQ, decode
from interpreters.quantize import ClassCodebook
from models.classifier import ClassifierInfo, Evidence, Features

CLASSES = 4
STOCK = {
    "focalnet": (VectorQuantizedPSIFocalNet_Audio, "image", (14, 14)),
    "generic": (VectorQuantizedPSI_Audio, "spectrogram", (8, 6)),
}


def info(channels: int, classes: int) -> ClassifierInfo:
    return ClassifierInfo(classes, 16000, 1024, (channels,), frozenset({"maps", "gradient"}))


def objective(logits, encoded, codes, target):
    """The stock recipe's: negative log likelihood of the mask, codebook and commitment MSE."""
    mask = nn.functional.binary_cross_entropy_with_logits(logits, target)
    return mask + (codes - encoded.detach()).square().mean() + (encoded - codes.detach()).square().mean()


def test_a_released_codebook_means_the_same():
    """Of the 20 codes in dispute, each is found by its owner, and none by the owners that are shared out evenly."""
    stock = VectorQuantizedPSI_Audio(dim=2, K=1024)
    ours = PIQ(info(2, 50), upsample=1, decoder="spectrogram", owners="published")
    ours.load_state_dict(stock.state_dict())
    even = ClassCodebook(1024, 2, 50)
    even.load_state_dict(stock.codebook.state_dict())
    disputed = (ours.codebook.owner != even.owner).nonzero().flatten()
    target = ours.codebook.owner[disputed]
    encoded = stock.codebook.embedding.weight[disputed][:, :, None, None]
    _, expected = stock.codebook.straight_through(encoded, target)
    assert torch.equal(ours.codebook(encoded, target).codes, expected)
    assert ours.codebook(encoded, target).indices.flatten().tolist() == disputed.tolist()
    assert not set(even(encoded, target).indices.flatten().tolist()) & set(disputed.tolist())


@pytest.mark.parametrize("name", STOCK)
@pytest.mark.parametrize("training", [True, False])
def test_equal_weights_give_equal_codes_masks_and_gradients(name, training):
    torch.manual_seed(0)
    kind, decoder, size = STOCK[name]
    stock = kind(dim=4, K=16, numclasses=CLASSES).double().train(training)
    for parameter in stock.parameters():
        if parameter.ndim < 3:
            nn.init.normal_(parameter)
    ours = PIQ(info(4, CLASSES), upsample=1, decoder=decoder, num_codes=16).double().train(training)
    ours.load_state_dict(stock.state_dict())

    maps, target = torch.randn(3, 4, *size, dtype=torch.double), torch.tensor([0, 3, 1])
    stock_logits, stock_encoded, stock_codes = stock(maps, target)
    encoded = ours.encode(Evidence(nn.functional.one_hot(target, CLASSES).double(), Features(maps, (maps,))))
    quantized = ours.codebook(encoded, target)
    logits = decode(ours.decoder, ours.up(quantized.straight_through))
    torch.testing.assert_close(encoded, stock_encoded)
    assert torch.equal(quantized.codes, stock_codes) and len(quantized.indices.unique()) > CLASSES
    torch.testing.assert_close(logits, stock_logits, rtol=1e-7, atol=1e-7)

    oracle = (torch.rand_like(logits) > 0.5).double()
    objective(stock_logits, stock_encoded, stock_codes, oracle).backward()
    objective(logits, encoded, quantized.codes, oracle).backward()
    gradients = {key: parameter.grad for key, parameter in ours.named_parameters()}
    for key, parameter in stock.named_parameters():
        torch.testing.assert_close(gradients[key], parameter.grad, rtol=1e-6, atol=1e-9)
    buffers = dict(ours.named_buffers())
    for key, value in stock.named_buffers():
        torch.testing.assert_close(buffers[key], value)


@pytest.mark.parametrize(
    ("kind", "channels", "parameters"),
    [
        (VectorQuantizedPSIFocalNet_Audio, 1024, 71_405_569),  # 71.4M in arXiv 2402.02754, Table 1
        (VectorQuantizedPSIViT_Audio, 768, 40_381_441),  # 44.4M there
        (VectorQuantizedPSI_Audio, 256, 6_792_193),
    ],
)
def test_paper_sizes_are_the_stock_classes(kind, channels, parameters):
    decoder = "spectrogram" if kind is VectorQuantizedPSI_Audio else "image"
    with torch.device("meta"):
        stock, ours = kind(dim=channels, K=1024), PIQ(info(channels, 50), decoder=decoder)
    shapes = [{key: one.shape for key, one in model.state_dict().items()} for model in (stock, ours)]
    assert shapes[1].pop("codebook.owner") == (1024,)  # which the stock class works out anew
    assert shapes[0] == shapes[1]
    assert sum(one.numel() for one in ours.parameters()) == parameters


@pytest.mark.parametrize(("codes", "classes"), [(1024, 50), (1024, 10), (16, 4), (64, 60), (51, 50)])
def test_published_owners_are_the_stock_ones(codes, classes):
    foreign = get_irrelevant_regions(torch.arange(classes), codes, classes, N_shared=0)
    owner = ClassCodebook(codes, 1, classes, "published").owner
    assert torch.equal(owner != torch.arange(classes)[:, None], foreign)


def test_twenty_of_1024_codes_have_another_owner_in_released_codebooks():
    even, published = (ClassCodebook(1024, 1, 50, owners).owner for owners in ("even", "published"))
    assert torch.equal(published - even, (published != even).long())
    assert int((published != even).sum()) == 20


@pytest.mark.parametrize(("codes", "classes"), [(1024, 50), (1024, 10), (16, 4)])
def test_parts_of_the_codebook_are_the_stock_ones_but_for_the_codes_at_their_borders(codes, classes):
    foreign = get_irrelevant_regions(torch.arange(classes), codes, classes, N_shared=0)
    stock_owner = (~foreign).float().argmax(dim=0)
    owner = ClassCodebook(codes, 1, classes).owner
    assert (owner - stock_owner).abs().max() <= 1
    assert int((owner != stock_owner).sum()) < classes


def test_a_class_beyond_the_stock_default_of_fifty_has_codes():
    foreign = get_irrelevant_regions(torch.tensor([60]), 1024, 50, N_shared=0)
    assert foreign.all()  # the stock recipe never passes its class count
    book = ClassCodebook(1024, 2, 64)
    indices = book(torch.randn(1, 2, 3, 3), torch.tensor([60])).indices
    assert (book.owner[indices] == 60).all()
