"""What differs between two recipes."""

from recipes.runs.changes import recipe_changes


def test_a_key_that_is_new_and_null_is_no_change():
    """Recipes of earlier versions lack keys that were added since."""
    assert recipe_changes({"seed": 1}, {"seed": 1, "columns": None}) == []
    (change,) = recipe_changes({"seed": 1}, {"seed": 1, "columns": {"filename": "path"}})
    assert change.key == "columns"
    (change,) = recipe_changes({"subset": "esc10"}, {"subset": None})
    assert (change.old, change.new) == ("esc10", None)
