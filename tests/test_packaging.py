"""What goes into the package beside its code."""

import re
from pathlib import Path

import innerloop
import innerloop_vos

ROOT = Path(__file__).parents[1]


def test_every_folder_of_weights_has_a_card_that_names_them():
    found = [*Path(innerloop_vos.__file__).parent.rglob("*.safetensors")]
    assert found
    for path in found:
        card = path.with_name("MODEL_CARD.md").read_text()
        assert path.name in card
        for fact in ("starts from", "trained on", "licence", "## Figures"):
            assert fact in card, (path, fact)


def test_the_citation_is_of_this_version():
    stated = re.findall(r"^version: (.*)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert stated == [innerloop.__version__]


def test_the_weights_that_ship_are_small():
    found = Path(innerloop_vos.__file__).parent.rglob("*.safetensors")
    assert sum(path.stat().st_size for path in found) < 60e6
