"""The page of one interpreter's run: what is said above the clips, the table of all of them, and runs beside it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from recipes.data.corpus import Corpus
from recipes.report.markdown import percent
from recipes.report.page import ClipTableView, Column, Confusion, Page, Plot, Rival, Row, finite
from recipes.runs.results import method_name, read_json
from recipes.scoring.scores import AVERAGED, OF_CLASSIFIER, heading, sentence
from recipes.scoring.table import ClipTable
from recipes.scoring.verdict import VERDICTS, verdict

if TYPE_CHECKING:
    from recipes.report.cards import Card
    from recipes.runs.facts import Result, RunFacts
    from recipes.runs.run import InterpreterRun

CLIP, LABEL, PREDICTION, VERDICT = "clip", "label", "prediction", "verdict"


def build_page(
    run: "InterpreterRun",
    result: "Result",
    cards: Sequence["Card"],
    rule: str,
    plots: Sequence[Plot],
    mixture: "Card | None",
) -> Page:
    """The page of a run. rule: how the clips of the cards were chosen. mixture: the card of the two-sound figure."""
    facts, corpus, exclusive = result.facts, run.store.corpus, run.subject.offers.labels.exclusive
    table = clip_table_view(result.table, corpus, shown=[card.title for card in cards])
    return Page(
        title=f"{method_name(facts.interpreter)} on {facts.classifier['experiment']}",
        facts=_shown_facts(run, result),
        cards=cards,
        summary=_summary(table, exclusive),
        choice=rule,
        table=table,
        scores=result.metrics,
        plots=plots,
        rivals=_rivals(result.folder, facts),
        confusion=confusion_of(result.table, run.subject.info.class_names) if exclusive else None,
        mixture=mixture,
    )


def confusion_of(table: ClipTable, class_names: tuple[str, ...]) -> Confusion:
    """How often each pair of true and predicted class occurs."""
    counts = Counter()
    for label, prediction in zip(table.columns["label"], table.columns["prediction"], strict=True):
        counts[int(label), int(prediction)] += 1
    return Confusion(counts, class_names)


def clip_table_view(table: ClipTable, corpus: Corpus, shown: Sequence[str]) -> ClipTableView:
    """The table of all clips with every score. shown: ids of the clips that have a card."""
    keys = [key for key in ("probability", *AVERAGED) if key in table.columns and key not in OF_CLASSIFIER]
    columns = [Column(CLIP, "clip", "clip"), Column(LABEL, "true", "text"), Column(PREDICTION, "predicted", "text")]
    if "residual_prediction" in table.columns:
        columns.append(Column(VERDICT, "verdict", "verdict", "whether the relevant part keeps the class and is needed"))
    for key in keys:
        columns.append(Column(key, heading(key), "number", sentence(key)))
    rows = []
    for number, title in enumerate(row_titles(table, corpus)):
        rows.append(_clip_row(table, number, keys, corpus, title))
    return ClipTableView(columns, rows, shown)


def row_titles(table: ClipTable, corpus: Corpus) -> list[str]:
    """The id of each row's clip, with the class that the row is about where the clip has several rows."""
    rows_of = Counter(table.index)
    titles = []
    for number, index in enumerate(table.index):
        title = corpus.clips[index].id
        if rows_of[index] > 1:
            name = table.class_name(corpus, PREDICTION, number) or table.class_name(corpus, LABEL, number)
            title = f"{title}: {name}"
        titles.append(title)
    return titles


def _clip_row(table: ClipTable, number: int, keys: Sequence[str], corpus: Corpus, title: str) -> Row:
    """The row of one clip, with the scores named by `keys` and, where the table has the parts' classes, the verdict."""
    label = table.class_name(corpus, LABEL, number)
    prediction = table.class_name(corpus, PREDICTION, number)
    scores = {}
    for key in keys:
        scores[key] = table.columns[key][number]
    values: dict = {LABEL: label, PREDICTION: prediction} | finite(scores)
    verdicts = []
    if "residual_prediction" in table.columns:
        values[VERDICT] = _verdict_key(table, number)
        verdicts.append(values[VERDICT])
    return Row(title, label, prediction, verdicts, values)


def _verdict_key(table: ClipTable, number: int) -> str:
    """The verdict on one clip's explanation, from the classes of the input and of its two parts."""
    prediction = int(table.columns[PREDICTION][number])
    of_relevant = int(table.columns["relevant_prediction"][number])
    of_residual = int(table.columns["residual_prediction"][number])
    return verdict(prediction, of_relevant, of_residual).key


def _summary(table: ClipTableView, exclusive: bool) -> list[str]:
    """The answer first: how often the classifier is right, and how often its explanations hold.

    exclusive: whether the rows are clips of one label, and not the classes that are heard.
    """
    count = len(table.rows)
    wrong = sum(row.label != row.prediction for row in table.rows)
    rows = "test clips" if exclusive else "classes heard in test clips"
    right = "classified correctly" if exclusive else "among the clip's labels"
    sentences = [f"{count} {rows}: {percent((count - wrong) / count)} {right}, {wrong} wrong."]
    verdict_counts: Counter[str] = Counter()
    for row in table.rows:
        verdict_counts.update(row.verdicts)
    if verdict_counts:
        parts = []
        for kind in VERDICTS:
            parts.append(f"{kind.symbol} {kind.label} {verdict_counts[kind.key]}")
        sentences.append(f"The explanation of the {'predicted' if exclusive else 'heard'} class: {', '.join(parts)}.")
    return sentences


def _shown_facts(run: "InterpreterRun", result: "Result") -> Mapping[str, object]:
    facts = result.facts
    weights = facts.classifier["classifier"]["weights"]
    return {
        "interpreter": facts.interpreter["class"],
        "recipe": facts.interpreter["recipe"],
        "classifier": f"{run.subject.bundle.path} (weights: {weights})",
        "data": f"{facts.data['name']}, test folds {facts.data['test_folds']}, {facts.data['clips']} clips",
        "contamination": result.noise.name,
        "seed": facts.seed,
        "commit": facts.commit,
        "device": facts.device,
    }


def _rivals(folder: Path, facts: "RunFacts") -> list[Rival]:
    """The runs beside this one, itself included, that scored the same classifier on the same clips; by FID-I."""
    experiment = next(path for path in folder.parents if path.name == facts.experiment)
    root, contamination = experiment.parent, folder.relative_to(experiment).parts[1:]
    rivals = []
    for path in sorted(root.glob("/".join(("*/*", *contamination, "metrics.json")))):
        result = read_json(path)
        if _is_rival(result, facts):
            name = "/".join(path.parent.relative_to(root).parts)
            rivals.append(Rival(name, result["metrics"], path.parent == folder))
    return sorted(rivals, key=lambda rival: -rival.metrics["fid_i"])


def _is_rival(result: dict, facts: "RunFacts") -> bool:
    """Whether a metrics.json is of an interpreter of the same classifier on the same clips."""
    if not result["interpreter"] or result["classifier"]["sha256"] != facts.classifier["sha256"]:
        return False
    for key in ("content", "test_folds", "clips", "contamination"):
        if result["data"].get(key) != facts.data[key]:
            return False
    return True
