"""Methods and backbones that other packages bring, or that are named as package.module:Object."""

import sys
from importlib.metadata import EntryPoint

import pytest
import torch

from innerloop_vos.backbones import backbone
from innerloop_vos.cli import main
from innerloop_vos.configuration import plugins
from innerloop_vos.data import synthetic_clip
from innerloop_vos.io.masks import read_mask, write_mask
from innerloop_vos.io.video import write_video

MODULE = '''
"""A method that gives the first masks for all frames, and a backbone of one layer."""

from dataclasses import dataclass

import torch
from torch import nn

from innerloop.errors import InputError
from innerloop_vos.backbones import Backbone, Level
from innerloop_vos.configuration.options import read_options
from innerloop_vos.ridge import RidgeSegmenter
from innerloop_vos.segmenter import Observation


@dataclass(frozen=True)
class Options:
    shift: int = 0


class Still(RidgeSegmenter):
    def __init__(self, options, weights, device):
        super().__init__(Pooled(), device=device)
        if weights:
            raise InputError("weights: there are none")
        self.shift = read_options(options.settings, Options()).shift

    def encode(self, frame):
        return None

    def add(self, encoded, masks):
        self.scores = 20 * masks.float() - 10

    def track(self, encoded):
        return Observation(self.scores.roll(self.shift, 2))

    def update(self, observation, merged):
        pass


def build(options, weights, device):
    return Still(options, weights, device)


class Pooled(Backbone):
    def __init__(self):
        super().__init__({"only": Level(4, 8)}, ("only",))
        self.conv = nn.Conv2d(3, 4, 8, 8)

    def extract(self, images):
        return {"only": self.conv(images)}


def other():
    return {}


number = 3
'''


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """The module `bare_method`, which can be imported."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "bare_method.py").write_text(MODULE)
    (tmp_path / "modules" / "broken_method.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path / "modules")
    yield
    sys.modules.pop("bare_method", None)


@pytest.fixture
def entries(bare, monkeypatch):
    """Installed packages that bring `still` and `pooled`, and would take the place of `ridge`."""
    values = {
        "innerloop_vos.methods": {"still": "bare_method:build", "ridge": "bare_method:build"},
        "innerloop_vos.backbones": {"pooled": "bare_method:Pooled"},
    }

    def entry_points(group):
        return [EntryPoint(name, value, group) for name, value in values[group].items()]

    monkeypatch.setattr(plugins, "entry_points", entry_points)


@pytest.fixture
def segment(tmp_path):
    frames, masks = synthetic_clip(length=3, size=(48, 80), objects=1)
    write_video(tmp_path / "clip.mkv", frames, rate=12)
    write_mask(tmp_path / "first.png", masks[0])
    words = [str(tmp_path / "clip.mkv"), "--mask", str(tmp_path / "first.png")]

    def run(*more):
        code = main(["segment", *words, "--out", str(tmp_path / "out"), *more])
        return code, [read_mask(path) for path in sorted((tmp_path / "out").glob("*.png"))]

    return run


@pytest.mark.parametrize("name", ["still", "bare_method:build", "bare_method:Still"])
def test_a_method_of_another_package_segments(entries, segment, name):
    code, masks = segment("--method", name, "--option", "shift=1")
    assert code == 0
    assert len(masks) == 3
    assert torch.equal(masks[2], masks[0].roll(1, 1))


def test_our_methods_keep_their_names(entries, segment):
    _, masks = segment("--method", "ridge")
    assert not torch.equal(masks[2], masks[0])


@pytest.mark.parametrize("name", ["pooled", "bare_method:Pooled"])
def test_ridge_on_a_backbone_of_another_package(entries, segment, name):
    code, masks = segment("--method", "ridge", "--backbone", name)
    assert code == 0
    assert len(masks) == 3


def test_a_backbone_of_another_package_takes_weights(entries, tmp_path):
    made = backbone("pooled")
    assert not made.training
    torch.save(made.state_dict(), tmp_path / "weights.pth")
    again = backbone("pooled", tmp_path / "weights.pth")
    assert torch.equal(made.conv.weight, again.conv.weight)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "--method other",
            "method: 'other' is unknown; choose one of lwl-lite, lwl, ridge, e-osvos,",
        ),
        ("--method bare:x", "'bare:x' cannot be imported: ModuleNotFoundError: No module named"),
        ("--method bare_method:x", "'bare_method:x' cannot be imported: AttributeError: "),
        ("--method :", "method: ':' cannot be imported: "),
        ("--method broken_method:x", "cannot be imported: ZeroDivisionError: division by zero"),
        ("--method bare_method:number", "'bare_method:number' is 3, should be a function or a"),
        ("--method bare_method:Pooled", "'bare_method:Pooled' cannot be called: too many"),
        ("--method still --weights first.png", "weights: there are none"),
        ("--method still --option size=1", "option: 'size' is unknown; there are shift"),
        ("--method ridge --backbone bare_method:other", "makes a dict, should make a Backbone"),
        ("--method ridge --backbone bare_method:build", "backbone: 'bare_method:build' cannot be"),
    ],
)
def test_what_cannot_be_used_is_named(entries, segment, capsys, words, message):
    code, masks = segment(*words.split())
    assert (code, masks) == (2, [])
    (error,) = capsys.readouterr().err.splitlines()
    assert message in error
