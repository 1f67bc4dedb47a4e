"""A run whose interpreter is ready to explain: as the recipe builds it, or as `interpret.py` has trained it."""

from pathlib import Path

from interpreters.base import Interpreter
from models.errors import UsageError
from recipes.config.recipe import Recipe
from recipes.runs.data import open_data, splits_of
from recipes.runs.kept_settings import check_training_kept
from recipes.runs.leaks import check_interpreter_unseen, check_unseen
from recipes.runs.places import run_folder
from recipes.runs.run import InterpreterRun, device_of
from recipes.runs.subject import interpreter_block, interpreter_factory, load_interpreter, load_subject


def open_trained_run(recipe: Recipe) -> InterpreterRun:
    """The run of an interpreter on the recipe's device, on the one split that the recipe names.

    A trained interpreter has its weights from the run's bundle and its settings from the recipe, so that those which
    matter when it explains can be changed. Raises UsageError where there is no classifier or no trained interpreter,
    where that is of another shape or the command line changes how it was trained, and where one of them knows a test
    clip.
    """
    values, folder, device = recipe.values, run_folder(recipe.values), device_of(recipe)
    subject = load_subject(values["classifier"], device, recipe.trust)
    if not subject.offers.labels.exclusive:
        raise UsageError(
            f"{subject.bundle.path} hears several classes in a clip, and this command asks about the predicted one: "
            "score it with interpret.py"
        )
    store = open_data(values, subject)
    (split,) = splits_of(values, store.corpus)
    objects = recipe.build()
    interpreter = interpreter_factory(recipe, objects, subject, folder)(info=subject.offers)
    if interpreter.trainable:
        trained = load_interpreter(folder, subject, f"python interpret.py {recipe.path}", recipe.trust).network
        check_training_kept(recipe, folder, interpreter.training_settings)
        _take_weights(interpreter, trained, recipe, folder)
    interpreter = interpreter.to(device)
    run = InterpreterRun(
        recipe=recipe,
        folder=folder,
        store=store,
        split=split,
        objects=objects,
        subject=subject,
        interpreter=interpreter,
        model_yaml=interpreter_block(recipe, folder),
    )
    check_unseen(subject.info, run, subject.bundle.path)
    if interpreter.trainable:
        check_interpreter_unseen(folder, run)
    return run


def _take_weights(interpreter: Interpreter, trained: Interpreter, recipe: Recipe, folder: Path) -> None:
    """Give the recipe's interpreter the weights that training left, frozen. Raises UsageError where they do not fit."""
    try:
        interpreter.load_state_dict(trained.state_dict())
    except RuntimeError as error:
        detail = " ".join(str(error).split())[:200]
        raise UsageError(
            f"{folder / 'interpreter'} was trained with other settings than {recipe.path} has: {detail}"
        ) from error
    interpreter.eval().requires_grad_(False)
