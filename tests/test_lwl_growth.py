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

SIZES = TINY_SIZES | {"box": True}


@pytest.fixture
def saved(tmp_path):
    """Writes a network whose decoder corrects something."""

    def save(**sizes):
        torch.manual_seed(1)
        network = LWL(backbone("small"), **(SIZES | sizes)).eval()
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
def corrected(network):
    torch.manual_seed(2)
    images, scores = torch.rand(1, 3, 64, 96), torch.randn(1, 2, 8, 12)
    return network.decoder.correct(scores, network.seen_by_decoder(images), images)


def test_another_bound_keeps_what_was_learned(saved, tmp_path):
    before = saved()
    same, wider = grown(tmp_path), grown(tmp_path, "--correction", "4")
    assert [network.sizes["correction"] for network in (same, wider)] == [2.0, 4.0]
    found = corrected(before)
    torch.testing.assert_close(corrected(wider), found, rtol=0, atol=1e-5)
    torch.nn.init.zeros_(before.decoder.project.conv3.weight)
    assert (found - corrected(before)).abs().max() > 1e-3


@pytest.mark.parametrize("levels", ["image", "backbone"])
@torch.no_grad()
def test_a_decoder_that_sees_more_keeps_what_was_learned(saved, tmp_path, levels):
    before = saved(decoder_levels=levels)
    same = grown(tmp_path, "--decoder-levels", levels)
    more = grown(tmp_path, "--decoder-levels", "both")
    assert [network.sizes["decoder_levels"] for network in (same, more)] == [levels, "both"]
    torch.testing.assert_close(corrected(more), corrected(before), rtol=0, atol=1e-5)
    images = torch.rand(1, 3, 64, 96)
    assert torch.equal(more.seen_by_decoder(images)["layer1"], more.extract(images)[0]["layer1"])
    other = {"image": "backbone", "backbone": "image"}[levels]
    with pytest.raises(
        InputError, match=f"--decoder-levels: {other}, .* should be {levels} or both"
    ):
        grown(tmp_path, "--decoder-levels", other)


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
        ({}, "--correction 0", "--correction should be positive, got 0"),
        (
            {"mask_label": False},
            "--correction 2",
            "--correction: this network's decoder corrects no mask",
        ),
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
