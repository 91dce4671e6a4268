"""The measurements of e-OSVOS run to their end on a small data set."""

import json
from dataclasses import replace

import pytest
import torch
from davis_layout import write_davis

import innerloop as il
from benchmarks.eosvos import iterations, table1
from benchmarks.eosvos.parts.measure import measure
from benchmarks.eosvos.parts.together import measure_together
from benchmarks.eosvos.parts.two_objects import two_object_clips
from innerloop.errors import InputError
from innerloop_vos.data import DavisDataset
from innerloop_vos.eosvos import EOSVOSOptions, eosvos_lite, load_eosvos, save_eosvos
from innerloop_vos.eosvos.training import WEIGHTS
from innerloop_vos.training.validation import Validation

SIZES = {
    "channels": 16,
    "image_size": (48, 64),
    "box_features": 16,
    "mask_features": 8,
    "sampled_boxes": 8,
    "proposals": (20, 20),
}


@pytest.fixture(scope="module")
def davis(tmp_path_factory):
    return write_davis(tmp_path_factory.mktemp("davis"), ["cat", "cow", "dog"])


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def weights(path, **sizes):
    torch.manual_seed(1)
    network = eosvos_lite(**SIZES, **sizes)
    save_eosvos(network, il.LearningRates(network, per="model", init=1e-3), path)
    return path


def test_table1_compares_components(davis, tmp_path, capsys, monkeypatch):
    words = (
        f"--parent {weights(tmp_path / 'parent.safetensors')} --work {tmp_path / 'work'} "
        f"--plain-parent {weights(tmp_path / 'plain.safetensors', norm='none')} "
        f"--davis {davis} --held-out cat,cow --held-out-frames 3 --seeds 2 --grid 1e-3 3e-3 "
        f"--iterations 1 --batch-size 1 --inner-steps 1 --bfloat16 --output {tmp_path}"
    )
    table1.main(f"{words} --steps 1".split())
    written = json.loads((tmp_path / "table1.json").read_text())
    cases = written["cases"]
    assert [(case["steps"], case["objects"]) for case in cases] == [(1, 1), (1, 2)]
    for case in cases:
        assert case["best single rate"] in (1e-3, 3e-3)
        assert list(case["rows"]) == [table1.PARENT, *table1.ROWS]
        assert list(case["gains"]) == list(table1.COMPONENTS)
        for component, (row, other) in table1.COMPONENTS.items():
            seeds = [case["rows"][name]["J&F"]["seeds"] for name in (row, other)]
            assert len(seeds[0]) == 2
            differences = [a - b for a, b in zip(*seeds, strict=True)]
            assert case["gains"][component]["seeds"] == differences
    folders = {path.parent.name for path in (tmp_path / "work").glob(f"*/{WEIGHTS}")}
    assert folders == {
        f"{kind}-{s}" for kind in ("model", "neuron", "plain-neuron") for s in (0, 1)
    }
    assert "2 objects" in capsys.readouterr().out

    # All that it needs is there already.
    monkeypatch.setattr(table1, "measure_together", None)
    table1.main(f"{words} --steps 1 --objects 2".split())
    again = json.loads((tmp_path / "table1.json").read_text())
    assert again == {"about": written["about"], "cases": cases[1:]}
    with pytest.raises(InputError, match=r"measured.json holds a run with frames 3, not 4"):
        table1.main(f"{words} --held-out-frames 4".split())


@pytest.mark.parametrize("option", ["--seed", "--per"])
def test_table1_itself_chooses_what_its_rows_differ_in(option):
    with pytest.raises(SystemExit):
        table1.parse(["--parent", "P", "--work", "W", option, "1"])
    assert table1.read_settings(table1.parse(["--parent", "P", "--work", "W"]), table1.SETTINGS)


def test_table1_takes_weights_that_are_there(davis, tmp_path):
    trained = tmp_path / "work" / "neuron-0"
    trained.mkdir(parents=True)
    weights(trained / WEIGHTS)
    arguments = table1.parse(f"--parent nowhere --work {tmp_path / 'work'} --davis {davis}".split())
    _, rates = table1.meta_trained(arguments.parent, table1.SETTINGS, None, trained)
    assert rates.per == "model"


def test_options_are_measured_together_as_one_by_one(davis, tmp_path):
    network, rates = load_eosvos(weights(tmp_path / "weights.safetensors"))
    with torch.no_grad():
        next(rates.parameters()).fill_(0.01)
    clips = two_object_clips(list(DavisDataset(davis, split="train"))[:2], 3)
    validation = Validation(clips, 3)
    options = EOSVOSOptions(min_score=0.0, online_interval=2, online_steps=1, seed=1)
    plain = replace(options, propagated=0, online_interval=None)
    variants = {
        "2": replace(options, steps=2),
        "1": replace(plain, steps=1),
        "0": replace(plain, steps=0),
    }
    together = measure_together(network, rates, variants, validation)
    assert len({figures["J&F"] for figures in together.values()}) == 3
    for name, each in variants.items():
        alone = measure(network, rates, each, validation)
        assert {measured: alone[measured] for measured in together[name]} == together[name]


def test_iterations_compare_parent_and_meta_learned(davis, tmp_path, capsys):
    path = weights(tmp_path / "weights.safetensors")
    words = (
        f"--parent {path} --meta {path} --davis {davis} --sequences cat,cow --frames 3 "
        f"--steps 0 1 --seeds 2 --bfloat16 --output {tmp_path}"
    )
    iterations.main(words.split())
    networks = json.loads((tmp_path / "iterations.json").read_text())["networks"]
    assert list(networks) == ["parent", "meta-learned"]
    for rows in networks.values():
        assert list(rows) == ["0", "1"]
        assert all(len(row["J&F"]["seeds"]) == 2 for row in rows.values())
    assert (tmp_path / "iterations.png").stat().st_size > 5000
    assert "meta-learned" in capsys.readouterr().out
