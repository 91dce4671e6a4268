"""LWL networks of other sizes: what they keep of the one that they begin as."""

import argparse

import pytest
import torch
from lwl_tiny import TINY_SIZES

from innerloop.errors import InputError
from innerloop_vos.backbones import backbone
from innerloop_vos.lwl import LWL
from innerloop_vos.lwl.training.network_options import add_network_arguments, network_from_arguments
from innerloop_vos.lwl.weights import save_lwl


@pytest.fixture
def saved(tmp_path):
    """Writes a network whose decoder corrects something."""

    def save(**sizes):
        torch.manual_seed(1)
        network = LWL(backbone("small"), **(TINY_SIZES | sizes)).eval()
        network.add_box_encoder()
        if network.decoder.corrects:
            torch.nn.init.normal_(network.decoder.project.conv3.weight, std=1e-2)
        save_lwl(network, tmp_path / "before.safetensors")
        return network

    return save


def grown(tmp_path, *words):
    parser = argparse.ArgumentParser()
    add_network_arguments(parser)
    init = ["--init", str(tmp_path / "before.safetensors")]
    return network_from_arguments(parser.parse_args([*init, *words])).eval()


@torch.no_grad()
def test_features_of_colour_come_and_go(saved, tmp_path):
    before = saved()
    more = grown(tmp_path, "--colours", "6")
    save_lwl(more, tmp_path / "before.safetensors")
    again, others, none = (grown(tmp_path, "--colours", count) for count in ("6", "8", "0"))
    counts = [network.sizes["colours"] for network in (before, more, again, others, none)]
    assert counts == [0, 6, 6, 8, 0]
    assert torch.equal(again.colours.frequencies, more.colours.frequencies)
    learned = before.state_dict()
    for network in (more, again, others, none):
        state = network.state_dict()
        assert all(torch.equal(state[name], value) for name, value in learned.items())
    images, box = torch.rand(1, 3, 64, 96), torch.ones(1, 64, 96).tril()
    assert torch.equal(none.segment_box(images, box), before.segment_box(images, box))


@pytest.mark.parametrize(
    ("sizes", "words", "message"),
    [
        ({}, "--colours 5", "--colours should be 0, or positive and even .*, got 5"),
        ({}, "--colours -2", "--colours should be 0, or positive and even .*, got -2"),
        (
            {"stride": 16, "features": 8},
            "--colours 4",
            "--colours should be 0, or .* at --stride 8, got 4",
        ),
    ],
)
def test_bad_sizes_are_named(saved, tmp_path, sizes, words, message):
    saved(**sizes)
    with pytest.raises(InputError, match=message):
        grown(tmp_path, *words.split())


def test_heads_are_taken_from_a_network_with_more_of_them(saved, tmp_path):
    before = saved(colours=4)
    parser = argparse.ArgumentParser()
    add_network_arguments(parser)
    words = (
        f"--init-heads {tmp_path / 'before.safetensors'} --outputs 2 --label-widths 4,8,8 "
        "--decoder-widths 8,8,8,8"
    )
    network = network_from_arguments(parser.parse_args(words.split()))
    assert network.box_label_encoder is None
    assert torch.equal(network.decoder.project.conv3.weight, before.decoder.project.conv3.weight)
