"""The recipes that the tests run. Not in conftest.py: several folders have one, and a test imports the newest."""

from pathlib import Path

HPARAMS = Path(__file__).parents[2] / "hparams"
TINY = Path(__file__).with_name("tiny.yaml")
# kind: the recipe that trains a small one of it, and what makes it smaller still
KINDS = {
    "focalnet": ("demo_focalnet.yaml", ("--epochs=6",)),
    "vit": ("vit_scratch.yaml", ("--epochs=1",)),
    "cnn14": ("cnn14_scratch.yaml", ("--epochs=4", "--width=0.0625")),
    "conv2d": ("conv2d.yaml", ("--epochs=1", "--weights=null", "--channels=16")),
    "mobilenet": ("mobilenet.yaml", ("--epochs=1", "--weights=null")),
    "ast": ("ast.yaml", ("--epochs=1", "--weights={tiny_ast}")),
    "clap": ("clap.yaml", ("--weights={tiny_clap}",)),
}
