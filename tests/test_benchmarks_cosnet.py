"""The ablation of COSNet runs to its end on a small data set, and goes on where it stopped."""

import json
import shutil

import pytest
import torch
from davis_layout import write_davis

from benchmarks.cosnet import ablation
from innerloop.errors import InputError
from innerloop_vos.cosnet import cosnet, save_cosnet
from innerloop_vos.cosnet.training.siamese import WEIGHTS


def test_forms_references_and_selections_are_compared(tmp_path, capsys, monkeypatch):
    davis = write_davis(tmp_path / "davis", ["cat", "cow"], length=4)
    work = tmp_path / "work"
    torch.manual_seed(0)
    save_cosnet(cosnet(co_attention="symmetric", channels=8), tmp_path / WEIGHTS)
    for form in ("vanilla", "symmetric", "channel"):
        (work / form).mkdir(parents=True)
        save_cosnet(cosnet(co_attention=form, channels=8), work / form / WEIGHTS)
    words = (
        f"--davis {davis} --held-out cow --held-out-frames 4 --iterations 1 --batch-size 1 "
        f"--height 64 --width 96 --warmup 1 --work {work} --output {tmp_path}"
    ).split()
    ablation.main([*words, "--tables", "references"])
    written = json.loads((tmp_path / "ablation.json").read_text())
    assert list(written["rows"]) == [f"symmetric, {n}, uniform" for n in (0, 1, 2, 5, 7)]
    assert list(written["about"]["weights"]) == ["symmetric"]

    ablation.main(words)  # the network without co-attention is trained
    assert (work / "none" / WEIGHTS).exists()
    rows = json.loads((tmp_path / "ablation.json").read_text())["rows"]
    assert len(rows) == 10
    for name, figures in written["rows"].items():
        assert rows[name] == figures
    # A clip of four frames has no more references.
    assert rows["symmetric, 5, uniform"] == rows["symmetric, 7, uniform"]
    assert rows["symmetric, 1, uniform"] != rows["symmetric, 2, uniform"]
    printed = capsys.readouterr().out
    for table in ablation.TABLES.values():
        for name, (row, paper) in table.items():
            assert f"{name:20}{rows[str(row)]['J']:8.1f}" in printed
            assert f"{paper:12.1f}" in printed

    monkeypatch.setattr(ablation, "COSNetSegmenter", None)  # nothing is left to do
    ablation.main(words)
    shutil.copy(tmp_path / WEIGHTS, work / "symmetric" / WEIGHTS)
    with pytest.raises(InputError, match="holds a run with symmetric"):
        ablation.main(words)
