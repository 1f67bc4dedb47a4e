"""The papers' tables with our runs below their rows, by hand."""

from recipes.report.paper_table import PaperRun, paper_tables

PAPERS = [
    {
        "source": "Some paper",
        "contamination": "clean",
        "columns": {"acc": "ACC", "fid_i": "FID-I", "parameters": "parameters"},
        "rows": [
            {"name": "A map", "recipe": "map", "acc": "0.774", "fid_i": "0.305", "parameters": "87.3M"},
            {"name": "Another", "recipe": "other", "acc": "0.7", "fid_i": "0.2", "parameters": "1M"},
        ],
    }
]
RESULT = {
    "seed": 7,
    "data": {"name": "esc50", "clips": 400, "contamination": "clean"},
    "classifier": {"training": {"parameters": 87_331_592}},
    "interpreter": {"parameters": 71_405_569},
    "metrics": {"acc": 0.5, "fid_i": 0.12345},
}
NOISY = RESULT | {"data": {"name": "esc50", "clips": 400, "contamination": {"kind": "mixture", "snr_db": 12.0412}}}


def lines(runs: dict) -> list[str]:
    return paper_tables(PAPERS, runs).splitlines()


def test_what_was_not_run_is_empty():
    assert lines({})[2:6] == [
        "| A map | published | 0.774 | 0.305 | 87.3M |  |",
        "| `map` | ours |  |  |  |  |",
        "| Another | published | 0.7 | 0.2 | 1M |  |",
        "| `other` | ours |  |  |  |  |",
    ]
    assert lines({})[-1] == "Some paper."


def test_a_run_stands_below_its_row_with_its_data_and_what_differs():
    runs = {"map": [PaperRun(RESULT, []), PaperRun(RESULT | {"seed": 8}, ["a: 1 -> 2", "b", "c", "d", "e"])]}
    assert lines(runs)[3:5] == [
        "| `map` | ours, seed 7 | 0.5 | 0.123 | 87.3M + 71.4M | esc50, 400 clips; as published |",
        "| `map` | ours, seed 8 | 0.5 | 0.123 | 87.3M + 71.4M | esc50, 400 clips; a: 1 -> 2; b; c; 2 more |",
    ]


def test_a_run_on_other_clips_than_the_tables_is_no_row():
    assert lines({"map": [PaperRun(NOISY, [])]}) == lines({})


def test_parameters_of_classifiers_untrained_maps_and_adopted_networks():
    trained = RESULT | {"interpreter": None, "training": {"parameters": 1_250_000}, "classifier": {}}
    assert "| 1.2M |" in lines({"map": [PaperRun(trained, [])]})[3]
    nothing_trained = RESULT | {"interpreter": {"parameters": 0}}
    assert "| 87.3M |" in lines({"map": [PaperRun(nothing_trained, [])]})[3]
    adopted = RESULT | {"classifier": {"training": {}}}
    assert "| ? + 71.4M |" in lines({"map": [PaperRun(adopted, [])]})[3]
