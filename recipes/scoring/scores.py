"""The scores by name, and how people are shown them."""

TRUTH = ("iou", "ap", "pointing", "inside", "si_sdri")  # on mixtures of two labelled clips

SCORES = ("acc", "fid_i", "fa", "fa_raw_cosine", "ai", "ad", "ag", "sps", "comp", "kept", "split_db", *TRUTH)

COLUMNS = {
    "acc": "ACC",
    "fid_i": "FID-I",
    "fa": "FA",
    "fa_raw_cosine": "FA, raw cosines",
    "ai": "AI %",
    "ad": "AD %",
    "ag": "AG %",
    "sps": "SPS",
    "comp": "COMP",
    "kept": "kept",
}

NAMES = COLUMNS | dict(zip(TRUTH, ("IoU", "AP", "pointing", "inside", "SI-SDRi dB"), strict=True))
