"""A run whose interpreter is ready to explain: as the recipe builds it, or as `interpret.py` has trained it."""

from recipes.config.recipe import Recipe
from recipes.runs.folder import splits_of
from recipes.runs.leaks import check_interpreter_unseen, check_unseen
from recipes.runs.places import run_folder
from recipes.runs.run import InterpreterRun, device_of
from recipes.runs.subject import (
    interpreter_block,
    interpreter_factory,
    load_subject,
    open_data,
    untrained_or_loaded,
)


def open_trained_run(recipe: Recipe) -> InterpreterRun:
    """The run of an interpreter on the recipe's device, on the one split that the recipe names.

    Raises UsageError where there is no classifier or no trained interpreter, and where one of them knows a test clip.
    """
    values, folder, device = recipe.values, run_folder(recipe.values), device_of(recipe)
    subject = load_subject(values["classifier"], device, recipe.trust)
    store = open_data(values, subject)
    (split,) = splits_of(values, store.corpus)
    objects = recipe.build()
    factory = interpreter_factory(recipe, objects, subject, folder)
    command = f"python interpret.py {recipe.path}"
    interpreter = untrained_or_loaded(factory, folder, subject, command, recipe.trust).to(device)
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
