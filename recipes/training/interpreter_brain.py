"""The training and the scoring of an interpreter, whatever its method."""

from collections.abc import Iterator, Mapping
from statistics import fmean

import speechbrain as sb
import torch
from torch.utils.data import BatchSampler, DataLoader

from models.frontend import Spectrogram
from recipes.data.clips import batch_options, collate, known_sources
from recipes.data.contamination import Contamination
from recipes.data.corpus import evenly_spaced
from recipes.runs.heard_clips import HeardClips
from recipes.runs.run import InterpreterRun
from recipes.scoring.batch import Cost, LabelledClips, score_batch
from recipes.scoring.journal import ScoredBatch, ScoreJournal
from recipes.scoring.table import ClipTable
from recipes.system.console import quiet, say
from recipes.system.parallel import Share, gather, on_main, rank
from recipes.training.brain import RecipeBrain, Selection
from recipes.training.kept_evidence import KeptEvidence
from recipes.training.mask_gain import MASK_GAIN, MaskGain, add_to_curve, mean_gain

OTHER_BASIS = "the recipe, data, weights, device, torch or commit"
"""What the scores of a batch rest on; see `recipes.runs.scoring_basis`."""


class InterpreterBrain(RecipeBrain):
    """Trains and scores any `Interpreter`. The frozen classifier is never among the Brain's own modules.

    noise: what each stage mixes into its clips. training: as for `RecipeBrain`. The epoch is chosen by the validation
    loss, or where the recipe says on how many clips (`mask_clips`), by what its masks gain (`mask_gain`). With
    `mask_steps` that is scored within an epoch too, after every so many batches, and chooses nothing.
    """

    selection = Selection("loss", larger_is_better=False)

    def __init__(self, run: InterpreterRun, noise: Mapping[sb.Stage, Contamination], training: bool = False):
        self.mask_gain = None
        if training and run.values.get("mask_clips") is not None:
            chosen = evenly_spaced(run.clips("valid"), run.values["mask_clips"])
            self.mask_gain = MaskGain(HeardClips(run, "valid", chosen))
            self.selection = Selection(MASK_GAIN, larger_is_better=True)
        self.classifier, self.interpreter, self.noise = run.subject.classifier, run.interpreter, noise
        self.logit_scale = run.subject.offers.logit_scale
        self.scored_before: dict[int, ScoredBatch] = {}
        self.kept: dict[sb.Stage, KeptEvidence] = {}
        if sb.Stage.TEST in noise:
            self.scoring_name = f"score {noise[sb.Stage.TEST].kind}"
        super().__init__(run, {"interpreter": run.interpreter}, [run.subject.classifier], training)

    def score_from(self, journal: ScoreJournal) -> None:
        """Score the run's test clips, but for the batches that the journal holds, and add each to it."""
        dataset, size = self.recipe_run.dataset("test"), self.recipe_run.values["eval_batch_size"]
        self.journal, self.scored_before = journal, on_main(journal.scored)
        forgotten = on_main(journal.of_another_basis)
        batches = list(BatchSampler(range(len(dataset)), size, drop_last=False))
        waiting = {number: batch for number, batch in enumerate(batches) if number not in self.scored_before}
        if self.scored_before:
            say(f"{self.scoring_name}: {len(self.scored_before)} of {len(batches)} batches were scored before")
        if forgotten:
            say(f"{self.scoring_name}: {forgotten} batches are scored anew, because {OTHER_BASIS} changed since")
        journal.open(self.scored_before)
        self.numbers = iter(Share(list(waiting), within=False))
        share = Share(list(waiting.values()), within=False)
        self.batches[sb.Stage.TEST] = len(share)
        with quiet(self.noprogressbar):
            self.evaluate(DataLoader(dataset, batch_sampler=share, **batch_options()), progressbar=False)

    def on_stage_start(self, stage, epoch=None):
        if stage not in self.kept and self._hears_the_same(stage):
            self._keep_evidence(stage)
        super().on_stage_start(stage, epoch)
        self.tables: list[ClipTable] = []
        self.cost = Cost()
        self.terms: dict[str, list[float]] = {}
        if stage == sb.Stage.TEST and rank() == 0:  # the first process holds what all have scored before
            for scored in self.scored_before.values():
                self._add_scores(scored)

    def _hears_the_same(self, stage: sb.Stage) -> bool:
        """Whether every epoch has the same clips, unchanged. On a GPU hearing them again takes less than a copy."""
        if stage == sb.Stage.TEST or self.debug or self.distributed_launch or torch.device(self.device).type != "cpu":
            return False
        return self.noise[stage].kind == "clean" and self.recipe_run.values["epochs"] > 1

    def _keep_evidence(self, stage: sb.Stage) -> None:
        """Let the classifier hear the clips of a stage once, in the stage's precision."""
        training = stage == sb.Stage.TRAIN
        self.kept[stage] = KeptEvidence(self.classifier)
        with self.training_ctx if training else self.evaluation_ctx:
            dataset = self.recipe_run.dataset("train" if training else "valid")
            name = f"what is heard in {'training' if training else 'validation'} clips"
            self.kept[stage].fill(dataset, self.recipe_run.values["batch_size"], name)

    def compute_forward(self, batch, stage):
        """Per-clip loss terms by name in training and validation; per-clip scores of every setting in testing."""
        if stage == sb.Stage.TEST:
            return self._scores(batch)
        noise, frontend = self.noise[stage], self.classifier.frontend
        mixed = noise.apply(batch, self.epoch).to(self.device)
        spectrogram = frontend.analyze(mixed.waveform)
        if stage in self.kept:
            evidence = self.kept[stage].of(spectrogram, batch.index)
        else:
            with torch.no_grad():
                evidence = self.classifier(spectrogram)
        clean = None
        if noise.kind != "clean":
            clean = frontend.analyze(batch.waveform.to(self.device))
        return self.modules.interpreter(self.classifier, spectrogram, evidence, clean=clean)

    def _scores(self, batch) -> list[dict[str, torch.Tensor]]:
        noise, store, sources = self.noise[sb.Stage.TEST], self.recipe_run.store, None
        if noise.kind == "mixture":
            sources = noise.mix(batch).sources
        elif noise.kind == "clean" and store.corpus.has_sources:
            sources = known_sources(store, batch)
        if sources is not None:
            sources = sources.to(self.device)
        waveform = noise.apply(batch).waveform.to(self.device) if sources is None else sources.heard
        truth = store.corpus.truth(batch.index.tolist()).to(self.device)
        clips = LabelledClips(self.classifier.frontend.analyze(waveform), truth, sources)
        self.batch_cost = Cost()
        return list(score_batch(self.classifier, self.interpreter, clips, self.logit_scale, self.batch_cost))

    def compute_objectives(self, predictions, batch, stage):
        if stage == sb.Stage.TEST:
            self._keep_scores(batch, predictions)
            return torch.zeros(())
        terms = torch.stack([term.float() for term in predictions.values()])  # [terms, B]
        for name, values in zip(predictions, terms.detach().tolist(), strict=True):  # a GPU is waited for once
            self.terms.setdefault(name, []).extend(values)
        return terms.sum(dim=0).mean()

    def _keep_scores(self, batch, predictions: list[dict[str, torch.Tensor]]) -> None:
        """Add a batch's scores to the tables and write them into the journal: a row for each explained class."""
        settings, clips = [], []
        for columns in predictions:
            clips = batch.index[columns.pop("row")].tolist()
            settings.append({name: column.tolist() for name, column in columns.items()})
        scored = ScoredBatch(next(self.numbers), clips, settings, self.batch_cost.seconds)
        self._add_scores(scored)
        self.journal.add(scored)

    def _add_scores(self, scored: ScoredBatch) -> None:
        if not scored.clips:  # the classifier hears nothing in any of them
            return
        if not self.tables:
            self.tables = _empty_tables(len(scored.settings))
        for table, columns in zip(self.tables, scored.settings, strict=True):
            table.extend(scored.clips, columns)
        self.cost.seconds += scored.seconds
        self.cost.clips += len(scored.clips)

    def training_spectrograms(self) -> Iterator[Spectrogram]:
        """Batches of the training clips as they are, in the order of the corpus."""
        dataset = self.recipe_run.dataset("train")
        for batch in DataLoader(dataset, self.recipe_run.values["batch_size"], collate_fn=collate):
            yield self.classifier.frontend.analyze(batch.waveform.to(self.device))

    def forget_training(self) -> None:
        """Free gradients and the optimiser's state, with Adam three times the weights, which scoring does not need."""
        self.modules.zero_grad(set_to_none=True)
        self.optimizer.state.clear()

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
        scores = {name: fmean(values) for name, values in self.terms.items()}
        if self.mask_gain is None:
            return scores
        return scores | self._gain_after(self.steps, self.mask_gain)

    def on_fit_batch_end(self, batch, outputs, loss, should_step):
        super().on_fit_batch_end(batch, outputs, loss, should_step)
        every = self.recipe_run.values.get("mask_steps")
        ends_the_epoch = self.step == self.batches[sb.Stage.TRAIN]
        if self.mask_gain is None or not every or self.step % every or ends_the_epoch:
            return
        self.modules.eval()
        with torch.no_grad():
            self._gain_after(self.step, self.mask_gain)
        self.modules.train()

    def _gain_after(self, step: int, mask_gain: MaskGain) -> dict[str, float]:
        """The mask gain and its parts after a step of the epoch in progress; they become a point of the run's curve."""
        gain = mean_gain(gather(mask_gain.columns(self.interpreter)))
        on_main(add_to_curve, self.recipe_run.folder, self.counter.current, step, gain)
        return gain


def _empty_tables(settings: int) -> list[ClipTable]:
    return [ClipTable() for _ in range(settings)]
