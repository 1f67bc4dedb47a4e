"""What a training mixes into the clips that it learns from and chooses its epoch by."""

from recipes.data.contamination import Contamination, ContaminationSettings
from recipes.runs.run import Run


def training_noise(run: Run, part: str) -> Contamination:
    """The contamination that `train_noise` and its level ask for, in one part ("train" or "valid") of a run's split.

    Raises UsageError as `Contamination`.
    """
    values = run.values
    settings = ContaminationSettings(
        values["train_noise"], values["seed"], values["train_snr_db"], values["noise_folder"]
    )
    return Contamination(settings, run.store, part, run.clips(part))
