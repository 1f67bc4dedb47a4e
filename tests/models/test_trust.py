"""Letting modules of one's own into a bundle: only the named ones, and of them only torch modules."""

import sys

import pytest

from models.bundle import build_trusted, check_trusted
from models.errors import UsageError

OWN = """
from pathlib import Path
from torch import nn
from torch.fx import GraphModule

Path(__file__).with_name("ran").touch()

class Half(nn.Identity):
    pass

def make():
    return Half()
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "half_module.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("half_module", None)


def test_a_module_is_neither_imported_nor_built_unless_it_is_named(own):
    with pytest.raises(UsageError) as refusal:
        check_trusted("a: !new:half_module.Half", "model.yaml")
    assert str(refusal.value).startswith(
        "model.yaml asks for '!new:half_module.Half', which a bundle may not build: only"
    )
    assert str(refusal.value).endswith("; trust=[half_module] lets in a module of your own")
    assert not (own / "ran").exists()
    built = build_trusted("a: !new:half_module.Half\nb: !new:torch.nn.Linear [2, 3]", "model.yaml", ["half_module"])
    assert type(built["a"]).__name__ == "Half" and built["b"].out_features == 3


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("half_module.make", "it is no torch module"),
        ("half_module.Path", "it is no torch module"),
        ("half_module.GraphModule", "of torch.fx.graph_module, which a bundle may not build"),
        ("half_module.Nothing", "does not exist here"),
        ("half_module2.Half", "only torch modules of"),
        ("half.Half", "only torch modules of"),
    ],
)
def test_of_a_trusted_module_only_its_own_networks_are_built(own, path, reason):
    with pytest.raises(UsageError, match=reason):
        build_trusted(f"a: !new:{path}", "model.yaml", ["half_module"])


def test_trust_runs_no_function(tmp_path):
    with pytest.raises(UsageError, match="it is no torch module"):
        build_trusted(f"a: !new:os.system [touch {tmp_path / 'ran'}]", "model.yaml", ["os"])
    with pytest.raises(UsageError, match=r"asks for '!apply:os.system', which a bundle may not build"):
        build_trusted(f"a: !apply:os.system [touch {tmp_path / 'ran'}]", "model.yaml", ["os"])
    assert not (tmp_path / "ran").exists()
