"""The code in the README runs as it stands."""

import re
from pathlib import Path

import torch

import innerloop as il

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
SOLVE, MAML, SEGMENT = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_solve(capsys):
    names = {}
    exec(SOLVE, names)
    assert il.Status.STEPS_USED_UP.sentence in capsys.readouterr().out
    assert names["solution"].status is il.Status.STEPS_USED_UP
    assert names["features"].grad.isfinite().all()


def test_maml(capsys):
    torch.manual_seed(0)
    names = {}
    exec(MAML, names)
    losses = names["losses"]
    assert losses[-1] < 0.5 * losses[0]
    untrained = il.LearningRates(names["net"], per="neuron", init=0.01).parameters()
    trained = names["rates"].parameters()
    assert all((a != b).any() for a, b in zip(untrained, trained, strict=True))
    assert "20 outer steps" in capsys.readouterr().out
    before = names["net"][0].weight.clone()
    names["task_loss"]([names["net"], names["rates"]], [part[0] for part in names["batch"]()])
    assert torch.equal(names["net"][0].weight, before)


def test_segment(capsys):
    names = {}
    exec(SEGMENT, names)
    assert names["labels"].shape == (96, 160)
    assert names["labels"].any()
    assert "tensor([0, 1]" in capsys.readouterr().out


def test_its_links_and_pictures_exist():
    links = re.findall(r"\]\((?!http)(.*?)\)", README)
    assert "docs/demo.jpg" in links
    assert all((ROOT / link).exists() for link in links)


def test_it_is_short():
    assert len(README.split()) <= 900
