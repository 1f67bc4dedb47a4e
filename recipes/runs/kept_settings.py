"""The settings of a trained interpreter, which its bundle keeps, against those that a command line asks for."""

from collections.abc import Collection
from pathlib import Path

from models.errors import UsageError
from recipes.config.meaning import meaning, meaning_of_bundle
from recipes.config.recipe import Recipe
from recipes.runs.changes import Change, phrases, recipe_changes


def check_settings_kept(recipe: Recipe, folder: Path) -> None:
    """Raise UsageError where the command line gives a trained interpreter other settings than its bundle keeps.

    It explains as it was trained, so they would do nothing. folder: of the run that trained it.
    """
    changed = changed_settings(recipe, folder)
    if changed:
        raise UsageError(
            f"{folder / 'interpreter'} keeps the settings that it was trained with, which are others "
            f"({'; '.join(phrases(changed))}): leave these out, or take its weights into a run of its own by "
            f"--start_from={folder} --epochs=0 --experiment=another_name, without --audio or --test_only"
        )


def check_training_kept(recipe: Recipe, folder: Path, training_settings: Collection[str]) -> None:
    """Raise UsageError where the command line changes what only the training of a trained interpreter looks at.

    Other settings may be changed where the recipe's interpreter explains. folder: of the run that trained it.
    """
    ignored = []
    for change in changed_settings(recipe, folder):
        if change.key.rpartition(".")[2] in training_settings:
            ignored.append(change)
    if ignored:
        raise UsageError(
            f"{folder / 'interpreter'} was trained with other settings ({'; '.join(phrases(ignored))}), and only "
            f"training looks at them: leave these out, or train with them by python interpret.py {recipe.path} and an "
            "--experiment of its own"
        )


def changed_settings(recipe: Recipe, folder: Path) -> list[Change]:
    """The settings of the interpreter that the command line gives otherwise than a run's bundle keeps them."""
    bundle = folder / "interpreter"
    kept = meaning_of_bundle((bundle / "model.yaml").read_text(encoding="utf-8"), "interpreter")
    asked = {"interpreter": meaning(recipe.text)["interpreter"]}
    changed = []
    for change in recipe_changes(kept, asked):
        if _is_on_line(change.key, recipe.line_keys) and not change.key.endswith(".weights"):  # a bundle keeps no paths
            changed.append(change)
    return changed


def _is_on_line(key: str, line_keys: Collection[str]) -> bool:
    """Whether the command line gives a key or one above it."""
    return any(key == name or key.startswith(f"{name}.") for name in line_keys)
