"""The ablations of LWL: what each row trains, and that a call continues where it stopped."""

import json
from argparse import Namespace

import pytest
import torch
from davis_layout import write_davis

from benchmarks.lwl import ablations as lwl_ablations
from benchmarks.lwl.parts import cells as lwl_cells
from benchmarks.lwl.parts.rows import ABLATIONS, Row
from benchmarks.parts.clips import SmallClips
from innerloop.errors import InputError
from innerloop_vos.data import DavisDataset
from innerloop_vos.lwl.training.end_to_end import WEIGHTS

PARTS = {"target_model", "label_encoder", "decoder"}


@pytest.fixture(scope="module")
def davis(tmp_path_factory):
    return write_davis(tmp_path_factory.mktemp("davis"), ["cat", "dog"])


def words(davis, ablation, folder, **options):
    options = {"seeds": 1, "steps": 1, "frames": 3, "every": 1, "height": 48, "width": 64} | options
    found = [ablation, "--davis", str(davis), "--held-out", "dog", "--clip-height", "60"]
    found += ["--work", str(folder / "work"), "--output", str(folder / "out")]
    return found + [w for k, v in options.items() for w in (f"--{k.replace('_', '-')}", str(v))]


def changed(before, after):
    state = before.state_dict()
    return {name for name, value in after.state_dict().items() if not value.equal(state[name])}


@pytest.mark.parametrize(
    ("label", "parts"),
    [
        ("baseline", {"decoder"}),
        ("+ end-to-end training", {"decoder", "target_model"}),
        ("+ label encoder", PARTS),
        ("+ weight predictor", PARTS),
    ],
)
def test_a_row_of_table_1_trains_what_it_says(davis, tmp_path, label, parts):
    (row,) = (row for row in ABLATIONS["table1"] if row.label == label)
    arguments = lwl_ablations.parse(words(davis, "table1", tmp_path, steps=2))
    clips = SmallClips(DavisDataset(davis, split="train"), 60, 1)
    network = lwl_cells.trained(row, 0, clips, arguments)
    start = lwl_cells.trained(Row("", None, row.sizes), 0, clips, arguments)
    names = changed(start, network)
    assert {name.partition(".")[0] for name in names} == parts
    weights_learn = any("samp_w_pred" in name for name in names)
    assert weights_learn == (label == "+ weight predictor")


def test_what_was_measured_is_not_measured_again(davis, tmp_path, capsys, monkeypatch):
    lwl_ablations.main(words(davis, "table9", tmp_path))
    path = tmp_path / "out" / "table9.json"
    first = json.loads(path.read_text())["cells"]
    assert {label: list(runs) for label, runs in first.items()} == {
        "search region": ["seed 0"],
        "full frame": ["seed 0"],
    }
    assert first["search region"] != first["full frame"]
    assert path.with_suffix(".png").exists()
    table = capsys.readouterr().out
    assert "search region" in table
    monkeypatch.setattr(lwl_ablations, "trained", None)
    lwl_ablations.main(words(davis, "table9", tmp_path))
    assert capsys.readouterr().out == table
    with pytest.raises(InputError, match=r"measured with frames 3"):
        lwl_ablations.main(words(davis, "table9", tmp_path, frames=4))


def test_a_given_network_is_measured_and_none_trained(davis, tmp_path, monkeypatch):
    lwl_ablations.main(words(davis, "table9", tmp_path))
    weights = tmp_path / "work" / "full-default-0" / WEIGHTS
    monkeypatch.setattr(lwl_ablations, "trained", None)
    lwl_ablations.main(words(davis, "fig9", tmp_path, weights=weights))
    cells = json.loads((tmp_path / "out" / "fig9.json").read_text())["cells"]
    assert list(cells) == ["1", "2", "4", "8", "16", "32"]
    assert all(0 < cell[str(weights)]["J"] <= 100 for cell in cells.values())
    with pytest.raises(SystemExit):
        lwl_ablations.parse(words(davis, "table1", tmp_path, weights=weights))


def test_a_training_with_other_settings_is_not_taken(davis, tmp_path):
    clips = SmallClips(DavisDataset(davis, split="train"), 60, 1)
    row = Row("")
    lwl_cells.trained(row, 0, clips, lwl_ablations.parse(words(davis, "table9", tmp_path)))
    other = lwl_ablations.parse(words(davis, "table9", tmp_path, height=64))
    with pytest.raises(InputError, match="height 48"):
        lwl_cells.trained(row, 0, clips, other)


def test_clips_are_made_small(davis):
    full = DavisDataset(davis, split="train")
    (clip, _) = SmallClips(full, 32, 3)
    assert clip.frames.names == [full[0].frames.names[index] for index in (0, 3, 6, 9)]
    assert clip.frames[0].shape == (3, 32, 40)
    assert clip.masks[1].shape == (32, 40)
    assert set(clip.masks[1].unique().tolist()) == {0, 1}
    coarse = torch.nn.functional.avg_pool2d(full[0].masks[3][None].float(), 2)[0]
    assert (clip.masks[1].float() - coarse).abs().mean() < 0.05


def test_table_6_needs_two_files(davis, tmp_path):
    with pytest.raises(SystemExit):
        lwl_ablations.parse(words(davis, "table6", tmp_path))
    assert isinstance(lwl_ablations.parse(words(davis, "table1", tmp_path)), Namespace)
