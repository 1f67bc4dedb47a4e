"""The training and the scoring of an interpreter, whatever its method."""

from collections.abc import Iterator, Mapping
from statistics import fmean

import speechbrain as sb
import torch
from torch.utils.data import DataLoader

from models.frontend import Spectrogram
from recipes.data.clips import collate
from recipes.data.contamination import Contamination
from recipes.runs.run import InterpreterRun
from recipes.scoring.batch import Cost, LabelledClips, score_batch
from recipes.scoring.table import ClipTable
from recipes.system.parallel import gather
from recipes.training.brain import RecipeBrain, Selection


class InterpreterBrain(RecipeBrain):
    """Trains and scores any `Interpreter`. The frozen classifier is never among the Brain's own modules.

    noise: what each stage mixes into its clips. training: as for `RecipeBrain`.
    """

    selection = Selection("loss", larger_is_better=False)

    def __init__(self, run: InterpreterRun, noise: Mapping[sb.Stage, Contamination], training: bool = False):
        self.classifier, self.interpreter, self.noise = run.subject.classifier, run.interpreter, noise
        self.logit_scale = run.subject.offers.logit_scale
        if sb.Stage.TEST in noise:
            self.scoring_name = f"score {noise[sb.Stage.TEST].kind}"
        super().__init__(run, {"interpreter": run.interpreter}, [run.subject.classifier], training)

    def on_stage_start(self, stage, epoch=None):
        super().on_stage_start(stage, epoch)
        self.tables: list[ClipTable] = []
        self.cost = Cost()
        self.terms: dict[str, list[float]] = {}

    def compute_forward(self, batch, stage):
        """Per-clip loss terms by name in training and validation; per-clip scores of every setting in testing."""
        if stage == sb.Stage.TEST:
            return self._scores(batch)
        noise, frontend = self.noise[stage], self.classifier.frontend
        mixed = noise.apply(batch, self.epoch).to(self.device)
        spectrogram = frontend.analyze(mixed.waveform)
        with torch.no_grad():
            evidence = self.classifier(spectrogram)
        clean = None
        if noise.kind != "clean":
            clean = frontend.analyze(batch.waveform.to(self.device))
        return self.modules.interpreter(self.classifier, spectrogram, evidence, clean=clean)

    def _scores(self, batch) -> list[dict[str, torch.Tensor]]:
        noise, mixture = self.noise[sb.Stage.TEST], None
        if noise.kind == "mixture":
            mixture = noise.mix(batch).to(self.device)
        mixed = mixture.batch if mixture else noise.apply(batch).to(self.device)
        spectrogram = self.classifier.frontend.analyze(mixed.waveform)
        clips = LabelledClips(spectrogram, mixed.label, mixture)
        return list(score_batch(self.classifier, self.interpreter, clips, self.logit_scale, self.cost))

    def compute_objectives(self, predictions, batch, stage):
        if stage == sb.Stage.TEST:
            if not self.tables:
                self.tables = _empty_tables(len(predictions))
            for table, columns in zip(self.tables, predictions, strict=True):
                table.add(batch.index, **columns)
            return torch.zeros(())
        for name, term in predictions.items():
            self.terms.setdefault(name, []).extend(term.detach().float().tolist())
        return sum(term.float() for term in predictions.values()).mean()

    def training_spectrograms(self) -> Iterator[Spectrogram]:
        """Batches of the training clips as they are, in the order of the corpus."""
        dataset = self.recipe_run.dataset("train")
        for batch in DataLoader(dataset, self.recipe_run.values["batch_size"], collate_fn=collate):
            yield self.classifier.frontend.analyze(batch.waveform.to(self.device))

    def gather_stage(self):
        parts = gather((len(self.tables), self.cost, self.terms))
        settings, total = 0, Cost()
        gathered: dict[str, list[float]] = {}
        for count, cost, terms in parts:
            settings = max(settings, count)
            total.seconds += cost.seconds
            total.clips += cost.clips
            for name, values in terms.items():
                gathered.setdefault(name, []).extend(values)
        tables = self.tables or _empty_tables(settings)
        self.tables = [table.gathered() for table in tables]
        self.cost, self.terms = total, gathered

    def stage_scores(self, stage):
        return {name: fmean(values) for name, values in self.terms.items()}


def _empty_tables(settings: int) -> list[ClipTable]:
    return [ClipTable() for _ in range(settings)]
