"""The kinds of contamination and their published levels. Checked without importing what decodes sound."""

import difflib
import math
from pathlib import Path

from models.errors import UsageError

PARTS = ("train", "valid", "test")
SCORED_PARTS = ("test", "valid")
"""Parts of a split that methods are compared on: results are of the test folds, settings are chosen on the others."""
FOLDER_KINDS = ("speech", "noise")
SNR_DB = {
    "mixture": 20 * math.log10(0.8 / 0.2),
    "white": 20 * math.log10(1 / 0.5),
    "speech": 20 * math.log10(0.8 / 0.2),
    "noise": 0.0,
}
"""The published level of each kind, in dB: 12.04, 6.02, 12.04 and 0."""

KINDS = ("clean", *SNR_DB)

SNR_LIMIT_DB = 100


def check_contamination(kind: str, snr_db: float | None = None, folder: str | Path | None = None) -> None:
    """Raise UsageError for an unknown kind, an SNR out of range, or a folder without readable sound files."""
    if kind not in KINDS:
        near = difflib.get_close_matches(str(kind), KINDS, 1)
        hint = f"did you mean {near[0]}? Known are" if near else "choose from"
        raise UsageError(f"contamination is {kind!r}: {hint} {', '.join(KINDS)}.")
    if snr_db is not None:
        number = isinstance(snr_db, int | float) and not isinstance(snr_db, bool)
        if not number or not abs(snr_db) <= SNR_LIMIT_DB:
            raise UsageError(
                f"The contamination's SNR is {snr_db!r}: give a number of dB within +-{SNR_LIMIT_DB:g}, "
                "or nothing for the published level."
            )
    if kind in FOLDER_KINDS:
        if folder is None:
            raise UsageError(f"contamination {kind} draws from a folder of sound files: give its path.")
        from recipes.data.noise import check_noise_folder

        check_noise_folder(folder)
