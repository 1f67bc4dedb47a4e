"""Training an interpreter where it has something to train, then scoring it: what `interpret.py` does."""

import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from statistics import fmean

import speechbrain as sb
import torch
from torch.utils.data import DataLoader

from interpreters.base import Interpreter
from models.bundle import check_trusted
from models.errors import UsageError
from models.frontend import Spectrogram
from recipes.config.recipe import Recipe, Settings
from recipes.config.rules import check_all
from recipes.data.audio import check_file
from recipes.data.clips import ClipDataset, ClipStore, collate, fold_set
from recipes.data.contamination import SNR_DB, Contamination, check_contamination
from recipes.data.corpus import FoldSplit, indices
from recipes.report.examples import explain_file, write_examples
from recipes.runs.facts import RunFacts, score_table, summarize_folds, write_manifest, write_metrics
from recipes.runs.folder import open_run, run_folder, splits_of
from recipes.runs.subject import (
    Subject,
    check_interpreter_unseen,
    check_unseen,
    find_classifier,
    find_reference,
    find_start,
    interpreter_block,
    interpreter_factory,
    load_interpreter,
    load_subject,
    open_data,
    save_interpreter,
    untrained_or_loaded,
)
from recipes.scoring.batch import Cost, score_batch
from recipes.scoring.table import ClipTable
from recipes.system.parallel import gather, join, on_main
from recipes.training.brain import RecipeBrain, Selection


class InterpreterBrain(RecipeBrain):
    """Trains and scores any `Interpreter`. The frozen classifier is never among the Brain's own modules."""

    selection = Selection("loss", larger_is_better=False)

    def prepare(self, subject: Subject, interpreter: Interpreter, noise: dict[sb.Stage, Contamination]) -> None:
        """What the stages need; noise: what each of them mixes into its clips."""
        self.classifier, self.interpreter, self.noise = subject.classifier, interpreter, noise
        self.logit_scale = subject.offers.logit_scale

    def on_stage_start(self, stage, epoch=None):
        super().on_stage_start(stage, epoch)
        self.tables: list[ClipTable] = []
        self.cost = Cost()
        self.terms: dict[str, list[float]] = {}

    def compute_forward(self, batch, stage):
        """Per-clip loss terms by name in training and validation; per-clip scores of every setting in testing."""
        noise, frontend, mixture = self.noise[stage], self.classifier.frontend, None
        if stage == sb.Stage.TEST and noise.kind == "mixture":
            mixture = noise.mix(batch).to(self.device)
        mixed = mixture.batch if mixture else noise.apply(batch, self.epoch).to(self.device)
        spectrogram = frontend.analyze(mixed.waveform)
        if stage == sb.Stage.TEST:
            explained = (self.classifier, self.interpreter, spectrogram, mixed.label, self.logit_scale)
            return list(score_batch(*explained, mixture, self.cost))
        with torch.no_grad():
            evidence = self.classifier(spectrogram)
        clean = None
        if noise.kind != "clean":
            clean = frontend.analyze(batch.waveform.to(self.device))
        return self.modules.interpreter(self.classifier, spectrogram, evidence, clean=clean)

    def spectrograms(self, dataset: ClipDataset, batch_size: int) -> Iterator[Spectrogram]:
        """Batches of the clips as they are, in their order."""
        for batch in DataLoader(dataset, batch_size, collate_fn=collate):
            yield self.classifier.frontend.analyze(batch.waveform.to(self.device))

    def compute_objectives(self, predictions, batch, stage):
        if stage == sb.Stage.TEST:
            self.tables = self.tables or [ClipTable() for _ in predictions]
            for table, columns in zip(self.tables, predictions, strict=True):
                table.add(batch.index, **columns)
            return torch.zeros(())
        for name, term in predictions.items():
            self.terms.setdefault(name, []).extend(term.detach().float().tolist())
        return sum(term.float() for term in predictions.values()).mean()

    def gather_stage(self):
        parts = gather((len(self.tables), self.cost, self.terms))
        count = max(tables for tables, _, _ in parts)
        self.tables = [table.gathered() for table in self.tables or [ClipTable() for _ in range(count)]]
        self.cost = Cost(*(sum(getattr(cost, name) for _, cost, _ in parts) for name in ("seconds", "clips")))
        names = max((terms for _, _, terms in parts), key=len)
        self.terms = {name: [value for _, _, terms in parts for value in terms.get(name, [])] for name in names}

    def stage_scores(self, stage):
        return {name: fmean(values) for name, values in self.terms.items()}


def run_interpreter(recipe: Recipe) -> Path:
    """Train if there is something to train, score on the test folds and write the report; or explain one file.

    Returns the folder that was written. Raises UsageError before data is prepared for anything missing or wrong.
    """
    join(recipe.run_opts)
    values = recipe.values
    command = f"python interpret.py {recipe.path}"
    cross_validated = values["folds"] == "all"
    first = 0 if cross_validated else None
    check_all(*(partial(check, values) for check in FILE_CHECKS))
    if values["audio"] is not None:
        subject = load_subject(values["classifier"], device_of(recipe), recipe.trust)
        factory = interpreter_factory(recipe, recipe.build(), subject, run_folder(values))
        interpreter = untrained_or_loaded(factory, run_folder(values), subject, command, recipe.trust)
        explained = (subject, interpreter.to(device_of(recipe)), Path(values["audio"]), run_folder(values))
        return on_main(explain_file, *explained)
    subject = load_subject(_classifier(values, first), device_of(recipe), recipe.trust)
    interpreter_factory(recipe, recipe.build(), subject, run_folder(values, first))(info=subject.offers)
    store = open_data(values, subject)
    splits = splits_of(values, store.corpus)
    folders = []
    for k, split in enumerate(splits):
        number = k if cross_validated else None
        folders.append(run_folder(values, number))
        if k:
            subject = load_subject(_classifier(values, number), device_of(recipe), recipe.trust)
        _run_split(recipe, store, split, subject, folders[-1], command)
    if cross_validated:
        for kind in contaminations(values):
            parts = [_part(folder, kind, values["snr_db"]) for folder in (*folders, run_folder(values))]
            on_main(summarize_folds, parts[:-1], parts[-1])
    return run_folder(values)


def _check_noise(values: Mapping) -> None:
    kinds = [*contaminations(values), values.get("train_noise", "clean")]
    check_all(*(partial(check_contamination, kind, values["snr_db"], values["noise_folder"]) for kind in kinds))


def _check_bundles(values: Mapping) -> None:
    first = 0 if values["folds"] == "all" else None
    check_all(
        partial(find_classifier, _classifier(values, first)), partial(find_reference, values, run_folder(values, first))
    )


def _check_start(values: Mapping) -> None:
    find_start(values, run_folder(values, 0 if values["folds"] == "all" else None))


def _check_audio(values: Mapping) -> None:
    if values["audio"] is not None:
        check_file(values["audio"])


FILE_CHECKS = {
    _check_noise: ("contamination", "snr_db", "noise_folder", "train_noise"),
    _check_bundles: ("classifier", "reference", "folds", "output_folder", "experiment", "seed"),
    _check_start: ("start_from", "folds", "output_folder", "experiment", "seed"),
    _check_audio: ("audio",),
}
"""Whether the files are there that a recipe's values name: each check, and the keys that it reads."""


def _part(folder: Path, kind: str, snr_db: float | None) -> Path:
    """Where the scores under one contamination go: mixture, or mixture_0dB at an SNR other than the published one."""
    if kind == "clean":
        return folder
    return folder / (kind if snr_db in (None, SNR_DB[kind]) else f"{kind}_{snr_db:g}dB")


def _classifier(values: dict, split_index: int | None) -> Path:
    """The classifier's bundle, or during cross-validation that of `train.py --folds=all` for the same split."""
    path = Path(values["classifier"])
    return path if split_index is None else path.parent / f"fold{split_index + 1}" / path.name


def contaminations(values: dict) -> list[str]:
    """The kinds of contamination a recipe scores on, one or a list in the YAML."""
    return values["contamination"] if isinstance(values["contamination"], list) else [values["contamination"]]


def _run_split(
    recipe: Recipe, store: ClipStore, split: FoldSplit, subject: Subject, folder: Path, command: str
) -> None:
    check_unseen(subject.info, store, split, subject.bundle.path)
    logs = open_run(recipe, folder)
    on_main(write_manifest, folder / "manifest.csv", store, split)
    block = interpreter_block(recipe, folder)
    check_trusted(block, recipe.path, recipe.trust)
    settings = recipe.build()
    interpreter = interpreter_factory(recipe, settings, subject, folder)(info=subject.offers)
    facts = facts_of(recipe, store, split, subject, interpreter)
    start, reference = find_start(recipe.values, folder), find_reference(recipe.values, folder)
    for run in filter(None, (start, reference)):
        check_interpreter_unseen(run, store, split)
    if interpreter.trainable and recipe.run_opts.test_only:
        trained = load_interpreter(folder, subject, command, recipe.trust)
        check_unseen(trained.info, store, split, trained.path)
        interpreter = trained.network
        facts.training.update(trained.info.source["training"])
    elif interpreter.trainable:
        if start is not None:
            begun = load_interpreter(start, subject, command, recipe.trust)
            try:
                interpreter.load_state_dict(begun.network.state_dict())
            except RuntimeError as error:
                detail = " ".join(str(error).split())[:200]
                raise UsageError(f"start_from={start} is of another shape: {detail}") from error
            facts.training["start_from"] = str(start)
        brain = _trainer(recipe, settings, subject, interpreter, store, split, folder, logs)
        facts.training.update(_fit(brain, settings, store, split), seconds=round(brain.stopwatch.seconds, 1))
    if not (interpreter.trainable and recipe.run_opts.test_only):
        on_main(save_interpreter, folder, interpreter, block, facts.source(), subject)
    for kind in contaminations(recipe.values):
        part = _part(folder, kind, recipe.values["snr_db"])
        _score(recipe, settings, subject, interpreter, store, split, kind, facts, part)


def facts_of(
    recipe: Recipe, store: ClipStore, split: FoldSplit, subject: Subject, interpreter: Interpreter
) -> RunFacts:
    """The facts of a run that explains a classifier."""
    facts = RunFacts.of(recipe, store, split, device_of(recipe), subject.info.source["classifier"]["weights"])
    facts.classifier = {"path": str(subject.bundle.path), "sha256": subject.fingerprint} | subject.info.source
    facts.interpreter = {"recipe": recipe.path.stem, "class": type(interpreter).__name__}
    facts.interpreter["parameters"] = sum(parameter.numel() for parameter in interpreter.parameters())
    return facts


def _trainer(recipe, settings: Settings, subject, interpreter, store, split, folder, logs) -> InterpreterBrain:
    batch_size = settings["batch_size"]
    steps = len(indices(store.corpus, split.train)) // batch_size // settings["grad_accumulation_factor"]
    brain = InterpreterBrain(
        {"interpreter": interpreter},
        settings,
        recipe.run_opts,
        folder,
        logs,
        settings["optimizer"],
        settings["schedule"](steps_per_epoch=max(1, steps)),
        frozen=[subject.classifier],
    )
    noise = {
        stage: Contamination(
            settings["train_noise"],
            store,
            part,
            indices(store.corpus, getattr(split, part)),
            settings["seed"],
            settings["train_snr_db"],
            settings["noise_folder"],
        )
        for stage, part in ((sb.Stage.TRAIN, "train"), (sb.Stage.VALID, "valid"))
    }
    brain.prepare(subject, interpreter, noise)
    return brain


def _fit(brain: InterpreterBrain, settings: Settings, store: ClipStore, split: FoldSplit) -> dict:
    """Train, load the chosen epoch's weights, and return the facts of the training."""
    batch_size, epochs = settings["batch_size"], settings["epochs"]
    train_set = fold_set(store, split.train, batch_size, training=True)
    if settings["start_from"] is None and brain.checkpointer.find_checkpoint() is None:
        brain.interpreter.fit(brain.spectrograms(train_set, batch_size))
    brain.train(epochs, train_set, fold_set(store, split.valid, batch_size), batch_size)
    brain.on_evaluate_start(**brain.selection.keys)
    return brain.training_facts() | {"epochs": epochs}


def _score(recipe, settings, subject, interpreter, store, split, kind, facts: RunFacts, folder: Path) -> None:
    """Score on the test folds under one contamination and write metrics.json, clips.csv and the report."""
    started = time.monotonic()
    clips = indices(store.corpus, split.test)
    noise = Contamination(kind, store, "test", clips, settings["seed"], settings["snr_db"], settings["noise_folder"])
    networks = {"modules": {"interpreter": interpreter}, "frozen": [subject.classifier]}
    brain = InterpreterBrain(settings=settings, run_opts=recipe.run_opts, folder=folder, **networks)
    brain.prepare(subject, interpreter.to(brain.device), {sb.Stage.TEST: noise})
    batch_size = settings["eval_batch_size"]
    brain.score(fold_set(store, split.test, batch_size), batch_size)

    def leave_results() -> None:
        table, sweep = brain.tables[0], None
        facts.data["contamination"] = "clean" if kind == "clean" else noise.facts()
        if interpreter.quantiles:
            sweep = [{"quantile": q} | t.averages() for q, t in zip(interpreter.quantiles, brain.tables, strict=True)]
            table = brain.tables[interpreter.quantiles.index(interpreter.headline)]
            facts.interpreter["quantile"] = interpreter.headline
        facts.interpreter["seconds_per_clip"] = round(brain.cost.seconds_per_clip, 5)
        facts.interpreter["kept_quartiles"] = table.quartiles("kept")
        metrics = table.averages()
        # they come last: where one is, what came before is of the same run
        for name in ("metrics.json", "report.html"):
            (folder / name).unlink(missing_ok=True)
        table.write(folder / "clips.csv", store.corpus)
        if kind != "clean":
            noise.write_draws(folder / "draws.csv")
        seconds = time.monotonic() - started
        write_metrics(folder / "metrics.json", facts, metrics, seconds, sweep)
        write_examples(
            folder, subject, interpreter, store, noise, table, settings["report_clips"], facts, metrics, sweep
        )
        print(f"\n{facts.experiment}, {kind} clips of folds {list(split.test)}\n{score_table(sweep or [metrics])}")
        print(f"report: {folder / 'report.html'}")

    on_main(leave_results)


def device_of(recipe: Recipe) -> str:
    """The device that a recipe runs on."""
    return recipe.run_opts.device or sb.utils.distributed.infer_device()
