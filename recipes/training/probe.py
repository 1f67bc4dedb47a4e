"""A linear head fitted to frozen embeddings, before the rest is fine-tuned.

Kumar et al., Fine-tuning can distort pretrained features, ICLR 2022 (arXiv 2202.10054): gradients through a random head
undo on a small set what pre-training learned.
"""

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from models.classifier import AudioClassifier
from models.errors import UsageError
from models.labels import Labels
from recipes.data.clips import ClipDataset, loader_options

STEPS = 80


def fit_head(classifier: AudioClassifier, clips: ClipDataset, batch_size: int, penalty: float) -> None:
    """Fit the classifier's linear head to the embeddings of these clips, by the loss of its labels, and freeze it.

    penalty: of `logistic_regression`. Raises UsageError for a head that is not a linear layer.
    """
    head = getattr(classifier, "head", classifier)
    if not isinstance(head, nn.Linear):
        raise UsageError(
            f"probe_penalty={penalty} needs a linear head, not a {type(head).__name__}: set it to null, or "
            "the classifier's head to torch.nn.Linear"
        )
    embedding = _embed(classifier, clips, batch_size)
    truth = clips.store.corpus.truth(clips.indices)
    weight, bias = logistic_regression(embedding, truth, classifier.describe().labels, penalty)
    with torch.no_grad():
        classifier.head.weight.copy_(weight)
        classifier.head.bias.copy_(bias)
    classifier.head.requires_grad_(False)


@torch.no_grad()
def _embed(classifier: AudioClassifier, clips: ClipDataset, batch_size: int) -> Tensor:
    """The clips' embeddings [n, D]; the classifier's modules are left in the modes they were in."""
    modes = {module: module.training for module in classifier.modules()}
    device = classifier.head.weight.device
    classifier.eval()
    embeddings = []
    for batch in DataLoader(clips, **loader_options(batch_size)):
        spectrogram = classifier.frontend.analyze(batch.waveform.to(device))
        embeddings.append(classifier(spectrogram).features.embedding.float().cpu())
    for module, mode in modes.items():
        module.training = mode
    return torch.cat(embeddings)


def logistic_regression(x: Tensor, truth: Tensor, labels: Labels, penalty: float) -> tuple[Tensor, Tensor]:
    """Weight [K, D] and bias [K] that minimise `labels.cross_entropy` + penalty * |weight|^2, by L-BFGS.

    x: [n, D]. truth: [n, K] bool. The penalty is of the weights on features of zero mean and unit variance.

    Not scikit-learn's, which has the same minimum for three classes and more (a test holds the two together): for two
    classes it fits another model, with one row of weights, and it has no row for a class that no label names.
    """
    mean, scale = x.mean(dim=0), x.std(dim=0) + 1e-2
    x = (x - mean) / scale
    weight = torch.zeros(truth.shape[1], x.shape[1], requires_grad=True)
    bias = torch.zeros(truth.shape[1], requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = labels.cross_entropy(x @ weight.T + bias, truth.float()).mean() + penalty * weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    weight = weight.detach() / scale
    return weight, bias.detach() - weight @ mean
