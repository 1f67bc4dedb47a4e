"""The training of a classifier: augmented clips, the loss, the epoch whose answers are best on validation clips."""

from dataclasses import dataclass

import speechbrain as sb
import torch
from torch import Tensor

from models.classifier import AudioClassifier, Evidence
from models.errors import UsageError
from recipes.data.augmentation import TrainingClips
from recipes.runs.run import Run
from recipes.scoring.answers import answer_table
from recipes.system.parallel import gather
from recipes.training.brain import RecipeBrain, Selection, diverged
from recipes.training.losses import classifier_loss
from recipes.training.noise import training_noise


@dataclass(frozen=True)
class Answer:
    """A classifier's evidence beside the targets [B, K] it is trained towards, weights of the classes in [0, 1]."""

    evidence: Evidence
    target: Tensor


def check_batch_size(classifier: AudioClassifier, batch_size: int) -> None:
    """Raises UsageError for batches of one clip where the head has a batch norm, whose mean is over clips."""
    head = getattr(classifier, "head", classifier)
    has_norm = any(isinstance(module, torch.nn.BatchNorm1d) for module in head.modules())
    if batch_size == 1 and has_norm:
        raise UsageError(
            "batch_size=1 cannot train this classifier: the batch norm of its head takes a mean over clips; pass "
            "--batch_size=2 or more, or a head without blocks (--head_blocks=0)"
        )


class ClassifierBrain(RecipeBrain):
    """Trains an `AudioClassifier` on clips with the recipe's `train_noise`, and tests it on clips without.

    table: after a validation or test stage, the answers of `answer_table`.
    """

    def __init__(self, run: Run, classifier: AudioClassifier):
        self.frontend, self.labels, self.corpus = classifier.frontend, classifier.describe().labels, run.store.corpus
        self.selection = Selection(self.labels.quality, larger_is_better=True)
        self.augmentation = run.objects["augmentation"]["augmentation"]
        self.loss = classifier_loss(run.values, classifier)
        self.noise = {sb.Stage.TRAIN: training_noise(run, "train"), sb.Stage.VALID: training_noise(run, "valid")}
        super().__init__(run, {"classifier": classifier}, training=True)

    def on_stage_start(self, stage, epoch=None):
        super().on_stage_start(stage, epoch)
        self.heard: dict[int, torch.Tensor] = {}

    def compute_forward(self, batch, stage):
        if stage in self.noise:
            batch = self.noise[stage].apply(batch, self.epoch)
        batch = batch.to(self.device)
        clips = TrainingClips(batch.waveform, self.corpus.truth(batch.index.tolist()).to(batch.waveform))
        if stage == sb.Stage.TRAIN:
            with torch.autocast(self.device_type, enabled=False):
                clips = self.augmentation(clips)
        return Answer(self.modules.classifier(self.frontend.analyze(clips.waveform)), clips.target)

    def compute_objectives(self, predictions, batch, stage):
        if stage != sb.Stage.TRAIN:
            probabilities = predictions.evidence.probabilities.cpu()
            if not torch.isfinite(probabilities).all():
                clips = "validation" if stage == sb.Stage.VALID else "test"
                raise diverged(f"the classifier's probabilities are NaN or infinite on {clips} clips")
            self.heard |= zip(batch.index.tolist(), probabilities, strict=True)
        return self.loss(predictions.evidence.logits, predictions.target)

    def gather_stage(self):
        heard = {}
        for part in gather(self.heard):
            heard |= part
        index = sorted(heard)
        probabilities, truth = torch.stack([heard[i] for i in index]), self.corpus.truth(index)
        self.scores = self.labels.scores(probabilities, truth)
        self.table = answer_table(self.labels, index, probabilities, truth)

    def stage_scores(self, stage):
        return self.scores
