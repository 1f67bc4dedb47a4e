"""Small functions that tests of several rooms share."""

from collections.abc import Callable

import pytest

from models.errors import UsageError


def refusal(call: Callable, *args: object, **options: object) -> str:
    """The sentence of the UsageError with which a call refuses its arguments."""
    with pytest.raises(UsageError) as caught:
        call(*args, **options)
    return str(caught.value)
