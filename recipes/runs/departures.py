"""How a run departs from the recipe of a published set-up, with the runs that it builds on."""

from collections.abc import Mapping
from pathlib import Path

from models.bundle import read_facts
from recipes.config.meaning import meaning
from recipes.config.recipe import load_recipe
from recipes.config.yaml_text import parse
from recipes.runs.changes import phrases, recipe_changes
from recipes.runs.identity import Identity
from recipes.runs.keys import CONTENT_KEYS, UNTRAINED_KEYS
from recipes.runs.places import PUBLISHED, is_bundle, recipe_of

ROOT = Path(__file__).parents[2]
PAPER = ROOT / "hparams" / "paper"

ALLOWED = {*UNTRAINED_KEYS, *CONTENT_KEYS, "seed", "experiment"} - {"eval_precision"}
"""Keys that say where things lie, on which sounds a run is scored or by which draws it is made."""

BUILDS_ON = {"classifier": -3, "start_from": -2}
"""Keys that name an earlier run by a path of its own, and the part of that path that is the run's experiment."""


def paper_recipe(experiment: str) -> Path | None:
    """The recipe of a published set-up by the name of its experiment; None for any other experiment."""
    path = ROOT / recipe_of(experiment)
    return path if experiment.startswith(PUBLISHED) and path.is_file() else None


def departures(run: Path, recipe: Path) -> list[str]:
    """What differs between a run and a recipe of `PAPER`, a phrase for each; none for a run of it as it stands.

    Of the classifier and of the run that training started from, all that differs from their own recipes is told too.
    The data are not compared: `metrics.json` says what they were.
    """
    path = run / "hyperparams.yaml"
    if not path.is_file():
        return [_instead(run, recipe)]
    published, text = load_recipe([str(recipe)]), path.read_text(encoding="utf-8")
    differing = phrases(recipe_changes(meaning(published.text), meaning(text), ALLOWED))
    identity = Identity.kept_in(run)
    if identity is not None:
        differing += [f"--{option}={value}" for option, value in identity.options.items()]
    differing += _inherited(published.values, parse(text, path))
    return sorted(differing, key=_matters_less)


def _matters_less(phrase: str) -> bool:
    """Whether a difference is told after those of the weights that training began with, which matter most."""
    return "weights" not in phrase


def _instead(folder: Path, recipe: Path) -> str:
    """What lies where a run of a recipe is expected: a bundle whose weights were adopted, or nothing."""
    if is_bundle(folder / "interpreter"):
        source = read_facts(folder / "interpreter", "interpreter").source
        return f"adopted, {source['training']['weights']}, for {source['classifier']['weights']}"
    if is_bundle(folder / "classifier"):
        return f"adopted, {read_facts(folder / 'classifier', 'classifier').source['classifier']['weights']}"
    return f"{folder} is no run of {recipe.name}"


def _inherited(published: Mapping, kept: Mapping) -> list[str]:
    """What differs in the runs that a run builds on.

    published: the values of its recipe, which name those runs by their experiments. kept: what the run has.
    """
    differing = []
    for key, part in BUILDS_ON.items():
        if not published.get(key):
            continue
        recipe = paper_recipe(Path(published[key]).parts[part])
        if recipe is not None:
            folder = Path(kept[key]).parent if key == "classifier" else Path(kept[key])
            differing += [f"{key}: {phrase}" for phrase in departures(folder, recipe)]
    return differing
