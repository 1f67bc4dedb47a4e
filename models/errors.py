"""The one exception for mistakes in what a user gave."""


class UsageError(ValueError):
    """A mistake in an argument, a file or a configuration, told in one sentence that says how to mend it.

    `train.py` and `interpret.py` print the sentence and exit with code 2, without a traceback.
    """
