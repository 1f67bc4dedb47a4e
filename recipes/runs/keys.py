"""The keys of a recipe by what a change of them means for what a run has trained."""

UNTRAINED_KEYS = (
    "contamination",
    "snr_db",
    "report_clips",
    "eval_batch_size",
    "eval_precision",
    "audio",
    "target",
    "cache_folder",
    "output_folder",
    "tensorboard",
    "trust",
    "ckpt_interval_minutes",
    "mask_steps",
)
"""Keys that leave the trained weights alone."""

CONTENT_KEYS = ("data_folder", "columns", "label_separator", "noise_folder", "classifier", "reference", "start_from")
"""Keys whose paths may change where what lies there is the same by its content."""
