"""One recipe at several values of one of its keys, and a table of what each scores.

python -m recipes.sweep hparams/lmac_td.yaml --over=alpha:0,0.75,1 --data_folder=path/to/ESC-50

Every value is a run of its own in `<experiment>_<key>_<value>`, as train.py or interpret.py makes it; one that is
finished is only scored again, and one that was stopped goes on. All recipes are checked before the first one runs.
Other arguments are given to each of them. The table is printed and written to
`<output_folder>/<experiment>_by_<key>.md`, with a row for every value and every contamination.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from models.errors import UsageError
from recipes.config.recipe import Recipe, load_recipe
from recipes.report.markdown import markdown_table, short_number
from recipes.runs.places import contaminations, part_folder
from recipes.runs.required import REQUIRED, REQUIRED_TO_TRAIN
from recipes.runs.results import read_json
from recipes.scoring.scores import heading
from recipes.system.entry import entry, tool_parser
from recipes.system.files import write_atomically
from recipes.system.problems import check_all


@dataclass(frozen=True)
class Sweep:
    """A recipe as the command line gives it, and the values that one of its keys takes.

    arguments: the recipe and what every run of it is given. key: dotted, as on the command line.
    """

    arguments: Sequence[str]
    key: str
    values: tuple[str, ...]

    @property
    def short_key(self) -> str:
        """The last part of the key, for names of folders and the head of the table."""
        return self.key.rpartition(".")[2]

    @cached_property
    def base(self) -> Recipe:
        """The recipe without any of the values. Raises UsageError as `load_recipe`."""
        return load_recipe(list(self.arguments))

    def recipes(self) -> list[Recipe]:
        """The recipe of every value. Raises UsageError for what cannot run, before anything does."""
        if self.base.values.get("audio") is not None:
            raise UsageError("a sweep compares scores, and --audio scores nothing: leave it out")
        experiment = self.base.values["experiment"]
        required = REQUIRED if explains(self.base) else REQUIRED_TO_TRAIN
        recipes: list[Recipe] = []

        def load(value: str) -> None:
            changes = [f"--{self.key}={value}", f"--experiment={experiment}_{self.short_key}_{value}"]
            recipes.append(load_recipe([*self.arguments, *changes], required))

        check_all(*(partial(load, value) for value in self.values))
        return recipes


def explains(recipe: Recipe) -> bool:
    """Whether a recipe is one of interpret.py, and not of train.py."""
    return "classifier" in recipe.values


def parse_values(text: str) -> tuple[str, tuple[str, ...]]:
    """A key and its values: "alpha:0,0.75,1". Raises UsageError for a text of another form, or a value named twice."""
    key, _, listed = text.partition(":")
    values = tuple(listed.split(","))
    if not key or "" in values:
        raise UsageError(f"--over={text} must be a key and its values, such as --over=alpha:0,0.75,1")
    if key == "experiment":
        raise UsageError(f"--over={text} would run one recipe under several names: name another key")
    if len(set(values)) < len(values):
        raise UsageError(f"--over={text} names a value twice: leave it out")
    return key, values


def result_rows(value: str, recipe: Recipe, folder: Path) -> list[dict]:
    """The scores of a run by contamination, with the swept value first. folder: of the run's clean scores."""
    kinds = contaminations(recipe.values) if explains(recipe) else ["clean"]
    rows = []
    for kind in kinds:
        part = part_folder(folder, kind, recipe.values.get("snr_db"))
        rows.append({"value": value, "clips": kind} | read_json(part / "metrics.json")["metrics"])
    return rows


def table(key: str, rows: Sequence[dict]) -> str:
    """A Markdown table of the rows; a score that a row lacks is left empty."""
    scores: dict[str, None] = {}
    for row in rows:
        scores.update(dict.fromkeys(row))
    names = [name for name in scores if name not in ("value", "clips") and not name.endswith("_undefined")]
    lines = []
    for row in rows:
        lines.append([row["value"], row["clips"], *(short_number(row.get(name)) for name in names)])
    return markdown_table([key, "clips", *map(heading, names)], lines)


def run_sweep(sweep: Sweep) -> Path:
    """Run every value of a sweep, print its table, and return the file that it was written to."""
    recipes = sweep.recipes()
    # imported only now: torch and SpeechBrain take seconds, and a mistake above is told at once
    from recipes.classification import train_classifier
    from recipes.interpretation import run_interpreter

    rows: list[dict] = []
    for value, recipe in zip(sweep.values, recipes, strict=True):
        print(f"{sweep.key}={value}", flush=True)
        folder = run_interpreter(recipe) if explains(recipe) else train_classifier(recipe)
        rows += result_rows(value, recipe, folder)
    text = table(sweep.short_key, rows)
    values = sweep.base.values
    path = Path(values["output_folder"]) / f"{values['experiment']}_by_{sweep.short_key}.md"
    write_atomically(path, f"{text}\n".encode())
    print(text)
    return path


def main(arguments: list[str]) -> None:
    """Entry point; see the module's docstring."""
    parser = tool_parser("sweep", __doc__, takes_recipe=True)
    parser.add_argument("--over", required=True, help="a key and its values, such as alpha:0,0.75,1")
    options, recipe = parser.parse_known_args(arguments)
    print(f"table: {run_sweep(Sweep(recipe, *parse_values(options.over)))}")


if __name__ == "__main__":
    entry(main)
