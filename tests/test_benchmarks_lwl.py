"""The measurements of LWL and ridge regression run to their end on a small data set."""

import json

import torch
from davis_layout import write_davis

from benchmarks.lwl import ablation, front, ridge
from innerloop_vos.lwl_lite import LWLLiteOptions, LWLLiteSegmenter, lwl_lite


def test_ridge_is_measured_by_backbone_and_channels(tmp_path, capsys):
    davis = write_davis(tmp_path / "davis", ["cat", "cow"])
    words = f"--davis {davis} --sequences cat cow --backbones small --channels 4 8 --every 2"
    threads = torch.get_num_threads()
    ridge.main([*words.split(), "--output", str(tmp_path)])
    torch.set_num_threads(threads)
    written = json.loads((tmp_path / "ridge.json").read_text())
    assert list(written["rows"]) == ["small, 4", "small, 8"]
    for row in written["rows"].values():
        assert 0 <= row["J&F"] == (row["J"] + row["F"]) / 2 <= 100
        assert abs(row["J&F"] - (row["cat"] + row["cow"]) / 2) < 1e-9
    assert "later, s" in capsys.readouterr().out


def test_the_front_is_drawn(tmp_path, monkeypatch):
    davis = write_davis(tmp_path / "davis", ["cat"])
    torch.manual_seed(0)
    tracker = LWLLiteSegmenter(lwl_lite(features=8, outputs=2), LWLLiteOptions(short_side=64))
    monkeypatch.setitem(front.METHODS, "fast", lambda: tracker)
    threads = torch.get_num_threads()
    words = f"--davis {davis} --sequences cat --methods fast --boxes --output {tmp_path}"
    front.main(words.split())
    torch.set_num_threads(threads)
    assert (tmp_path / "front.png").stat().st_size > 1000


def test_rules_on_top_are_compared(tmp_path):
    davis = write_davis(tmp_path / "davis", ["cat"])
    threads = torch.get_num_threads()
    ablation.main(["--davis", str(davis), "--sequences", "cat", "--output", str(tmp_path)])
    torch.set_num_threads(threads)
    rows = json.loads((tmp_path / "ablation.json").read_text())["rows"]
    assert list(rows) == list(ablation.VARIANTS)
    assert rows["as it is"]["J&F"] > 70
    assert rows["second view"]["cat"] != rows["as it is"]["cat"]
