"""The files of `train --config NAME`: what they set, that they run, and what their table says."""

import argparse
import json
import re
import tomllib
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from davis_layout import write_davis
from lwl_tiny import TinyBackbone, tiny_lwl
from safetensors.torch import save_file
from test_eosvos_training import network as tiny_eosvos

import innerloop_vos.configs
from innerloop_vos.cli import main
from innerloop_vos.commands import train
from innerloop_vos.configs import config_names, config_path
from innerloop_vos.configuration.options import names
from innerloop_vos.eosvos import save_eosvos
from innerloop_vos.eosvos.finetuning import initial_rates
from innerloop_vos.eosvos.phases import PHASES
from innerloop_vos.lwl import save_lwl
from innerloop_vos.lwl.options import LWLOptions
from innerloop_vos.lwl.training.stages import STAGES
from innerloop_vos.training.options import TrainingParser, read_settings

README = Path(innerloop_vos.configs.__file__).with_name("README.md").read_text()


def network_of(name):
    return "lwl" if name.startswith("lwl-") else "e-osvos"


def parsed(name):
    """The arguments of a file, and the settings that they mean."""
    kind = train._NETWORKS[network_of(name)]
    parser = TrainingParser()
    kind.declare(parser)
    arguments = parser.parse_args(["--config", name, "--out", "x"])
    return arguments, read_settings(arguments, kind.preset(arguments))


def test_the_files_are_those_of_the_two_papers():
    stages = [f"lwl-{kind}-{stage}" for kind in ("paper", "released") for stage in STAGES]
    lwl = {re.sub(r"-(\d)$", r"-stage\1", name) for name in stages}
    lwl |= {"lwl-paper-ablation", "lwl-released-ablation", "lwl-davis"}
    eosvos = {f"eosvos-{kind}" for kind in ("parent", "meta", "davis2016", "davis2017")}
    assert set(config_names()) == lwl | eosvos


@pytest.mark.parametrize("name", config_names())
def test_a_file_names_known_options_and_says_what_it_is(name):
    parsed(name)  # stops at an unknown one
    text = config_path(name).read_text()
    assert text.startswith("# LWL, " if network_of(name) == "lwl" else "# e-OSVOS, ")


@pytest.mark.parametrize("stage", STAGES)
def test_the_released_files_are_the_released_stages(stage):
    name = f"lwl-released-{'box' if stage == 'box' else f'stage{stage}'}"
    arguments, settings = parsed(name)
    assert (arguments.stage, settings) == (stage, STAGES[stage])
    assert (arguments.year, arguments.held_out) == (2017, ("@lwl-valid",))


@pytest.mark.parametrize(
    ("name", "phase", "year"),
    [
        ("eosvos-parent", "parent", 2017),
        ("eosvos-meta", "meta", 2017),
        ("eosvos-davis2016", "davis", 2016),
        ("eosvos-davis2017", "davis", 2017),
    ],
)
def test_the_files_of_eosvos_are_its_phases(name, phase, year):
    arguments, settings = parsed(name)
    assert (arguments.phase, settings, arguments.year) == (phase, PHASES[phase], year)


FAST = ("regularization_rate", "projection_rate", "decoder_rate", "label_encoder_rate")
PAPER = {"loss": "frames", "loss_weight": 1.0, "replacement": False, "colours": False}


@pytest.mark.parametrize(
    ("name", "stage", "others"),
    [
        ("lwl-paper-stage1", "1", dict.fromkeys(FAST, 1e-2)),
        (
            "lwl-paper-stage2",
            "2",
            dict.fromkeys((*FAST, "backbone_rate"), 2e-3) | {"iterations": 100_000},
        ),
        ("lwl-paper-box", "box", {"ratio": (1, 1, 1, 2), "box_encoder_rate": 1e-2}),
        (
            "lwl-paper-ablation",
            "1",
            dict.fromkeys(FAST, 1e-2) | {"batch_size": 10, "decay_at": (25_000, 50_000)},
        ),
    ],
)
def test_the_paper_differs_where_it_says_so(name, stage, others):
    arguments, settings = parsed(name)
    assert (arguments.stage, arguments.held_out) == (stage, ("@lwl-valid",))
    released, ours = asdict(STAGES[stage]), asdict(settings)
    assert {key: ours[key] for key in ours if ours[key] != released[key]} == PAPER | others


def test_the_ablation_of_the_released_settings_is_as_long_as_the_papers():
    _, settings = parsed("lwl-released-ablation")
    _, paper = parsed("lwl-paper-ablation")
    schedule = ("iterations", "batch_size", "decay_at")
    expected = asdict(STAGES["1"]) | {name: getattr(paper, name) for name in schedule}
    assert asdict(settings) == expected


def test_the_fine_tuning_on_davis_ends_as_the_second_stage_does():
    _, settings = parsed("lwl-davis")
    expected = asdict(STAGES["2"])
    rate = expected["decoder_rate"] / 5 ** len(expected["decay_at"])
    differing = {key: value for key, value in asdict(settings).items() if value != expected[key]}
    assert differing.pop("iterations") == 2000
    assert differing.pop("decay_at") == ()
    assert differing == pytest.approx(dict.fromkeys((*FAST, "backbone_rate"), rate))


def test_a_name_that_is_not_there(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["train", "lwl", "--config", "lwl-stage1", "--out", "x"])
    assert stopped.value.code == 2
    message = capsys.readouterr().err
    assert f"--config: there is no lwl-stage1; there are {', '.join(config_names())}" in message


def test_a_path_is_read_as_before(tmp_path, capsys):
    for path in (tmp_path / "mine.toml", tmp_path / "mine"):
        path.write_text('stage = "1"\nbatch-size = 3\n')
        assert main(["train", "lwl", "--config", str(path), "--out", "x", "--print-config"]) == 0
        assert tomllib.loads(capsys.readouterr().out)["batch-size"] == 3


def test_a_folder_may_have_the_name_of_a_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["train", "lwl", "--config", "lwl-davis", "--out", "lwl-davis", "--davis", "nowhere"]
    assert main(words) == 2
    assert "--init: stage 2 needs the weights of the one before" in capsys.readouterr().err
    Path("mine.toml").write_text('stage = "1"\n')
    assert main(["train", "lwl", "--config", "mine.toml", "--out", "mine.toml"]) == 2
    assert "--out: mine.toml is read too, as --config" in capsys.readouterr().err


@pytest.fixture(scope="module")
def davis(tmp_path_factory):
    return write_davis(tmp_path_factory.mktemp("davis"), ["cat", "cow", "dog"])


@pytest.mark.usefixtures("tiny_backbone")
@pytest.mark.parametrize("name", config_names())
def test_two_iterations(davis, tmp_path, name):
    out = tmp_path / "out"
    words = f"--davis {davis} --out {out} --iterations 2 --batch-size 2 --held-out dog "
    words += "--held-out-frames 3 --every 2 --device cpu "
    start = tmp_path / "start.safetensors"
    if network_of(name) == "e-osvos":
        net = tiny_eosvos()
        save_eosvos(net, initial_rates(net), start)
        words += f"--init {start} --held-out-steps 1 --held-out-tasks 1 --batch-size 1"
        words += "" if name == "eosvos-parent" else " --inner-steps 2"
    elif "stage1" in name or "ablation" in name:
        torch.manual_seed(2)
        save_file(TinyBackbone().state_dict(), start)
        words += f"--backbone-weights {start} --backbone-style caffe --height 48 --width 64"
    else:
        save_lwl(tiny_lwl(), start)
        words += f"--init {start} --height 48 --width 64"
    assert main(["train", network_of(name), "--config", name, *words.split()]) == 0
    curve = json.loads((out / "curve.json").read_text())
    assert "held out/J" in curve[-1]
    assert {path.suffix for path in out.iterdir()} == {".pt", ".json", ".png", ".safetensors"}


def test_the_table_names_options_that_are_there():
    chapters = README.split("\n## ")[1:]
    assert [chapter.splitlines()[0] for chapter in chapters] == ["LWL", "e-OSVOS"]
    for chapter, network in zip(chapters, ("lwl", "e-osvos"), strict=True):
        parser = argparse.ArgumentParser()
        train._NETWORKS[network].declare(parser)
        known = {word.removeprefix("--") for word in parser._option_string_actions}
        rows = [line.split("|")[1:-1] for line in chapter.splitlines() if line.startswith("| ")]
        named = {word for row in rows for word in re.findall("`([^`*]+)`", row[-1])}
        inference = {word for word in named if "=" in word}
        assert named - inference <= known
        assert {word.partition("=")[0] for word in inference} <= set(names(LWLOptions))
        assert len(named) > 10
