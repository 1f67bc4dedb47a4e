"""May a classifier or an interpreter of your own take part? Prints `conforms`, or a sentence for each thing that lacks.

    python -m recipes.conformance my_classifier.yaml
    python -m recipes.conformance my_interpreter.yaml --classifier=results/mobilenet/1234/classifier

checks the `model` of a recipe for train.py, or the `interpreter` of one for interpret.py on its classifier. No data are
read. In Python:

>>> from recipes.conformance import check_classifier, check_interpreter
>>> print(*check_classifier(MyClassifier()), sep="\\n")
>>> print(*check_interpreter(MyInterpreter, MyClassifier()), sep="\\n")
"""

import sys

from interpreters.conformance import check_interpreter
from models.conformance import check_classifier
from models.errors import UsageError
from recipes.config.recipe import Recipe, load_recipe
from recipes.data.class_names import name_classes
from recipes.runs.subject import load_subject
from recipes.system.entry import entry, tool_parser

__all__ = ["check_classifier", "check_interpreter"]


def check_recipe(recipe: Recipe) -> list[str]:
    """What keeps a recipe's classifier or interpreter from taking part, in sentences.

    Raises UsageError for a recipe that builds neither, and where the classifier to explain is not there.
    """
    settings = recipe.build()
    if "model" in settings:
        classifier = settings["model"].get("classifier")
        name_classes(classifier, [f"class {number}" for number in range(recipe.values.get("num_classes", 0))])
        return check_classifier(classifier)
    if "interpreter" not in settings:
        raise UsageError(f"{recipe.path} builds neither a classifier (`model`) nor a method (`interpreter`)")
    subject = load_subject(recipe.values["classifier"], "cpu", recipe.trust)
    return check_interpreter(settings["interpreter"]["interpreter"], subject.classifier)


def main(arguments: list[str]) -> None:
    """Entry point; see the module's docstring. Exits with 1 when something is lacking."""
    _, recipe_line = tool_parser("conformance", __doc__, takes_recipe=True).parse_known_args(arguments)
    findings = check_recipe(load_recipe(recipe_line))
    print("\n".join(findings) or "conforms")
    sys.exit(1 if findings else 0)


if __name__ == "__main__":
    entry(main)
