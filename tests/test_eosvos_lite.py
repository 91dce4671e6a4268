"""eosvos_lite: its layers, what of it is frozen, its files, half precision, and its training."""

import argparse
from dataclasses import replace

import pytest
import torch
from davis_layout import write_davis
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

import innerloop as il
from innerloop.errors import InputError
from innerloop_vos.backbones.efficientnet_lite0 import EfficientNetLite0
from innerloop_vos.backbones.efficientnet_weights import released_weights
from innerloop_vos.configuration.arguments import read_fields
from innerloop_vos.eosvos import eosvos_lite, load_eosvos, save_eosvos
from innerloop_vos.eosvos.finetuning import Batch, initial_rates, training_loss
from innerloop_vos.eosvos.train_command import (
    NetworkOptions,
    _network,
    add_eosvos_arguments,
    train_eosvos_from_arguments,
)
from innerloop_vos.eosvos.training import WEIGHTS
from innerloop_vos.methods import eosvos
from innerloop_vos.methods.interface import MethodOptions

SIZES = {
    "channels": 16,
    "image_size": (64, 96),
    "box_features": 16,
    "mask_features": 8,
    "sampled_boxes": 8,
    "proposals": (50, 50),
}
MOST = 12e6
"""Bytes of a file in half precision."""


def tiny(**sizes):
    torch.manual_seed(1)
    return eosvos_lite(**SIZES, **sizes)


def batch():
    torch.manual_seed(0)
    mask = torch.zeros(64, 96, dtype=torch.bool)
    mask[10:50, 20:80] = True
    return Batch([torch.rand(3, 64, 96)], [mask])


def parse(words):
    parser = argparse.ArgumentParser()
    add_eosvos_arguments(parser)
    return parser.parse_args(words.split())


def test_levels_have_the_strides_of_the_paper():
    levels = tiny().backbone(torch.rand(1, 3, 64, 128))
    assert {name: tuple(level.shape[1:]) for name, level in levels.items()} == {
        "0": (16, 16, 32),
        "1": (16, 8, 16),
        "2": (16, 4, 8),
        "3": (16, 2, 4),
        "pool": (16, 1, 2),
    }


def test_all_but_depthwise_convolutions_learn():
    network = tiny()
    training_loss(network, batch()).backward()
    depthwise = {
        f"{name}.{part}"
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d) and module.groups > 1
        for part in ("weight", "bias")
    }
    assert len(depthwise) == 2 * 16
    for name, parameter in network.named_parameters():
        assert (parameter.grad is None) == (name in depthwise)
        assert parameter.grad is None or parameter.grad.isfinite().all()


def test_the_norm_is_in_pyramid_and_mask_head():
    for norm, parts in (("group", {"backbone.fpn", "roi_heads.mask_head"}), ("none", set())):
        network = tiny(norm=norm)
        assert network.sizes["norm"] == norm
        names = [
            name for name, module in network.named_modules() if isinstance(module, nn.GroupNorm)
        ]
        assert {".".join(name.split(".")[:2]) for name in names} == parts


def test_detections_are_masks_of_the_frame():
    (image,), (mask,) = batch()
    box = torch.tensor([[20.0, 10, 80, 50]])
    (found,) = tiny()([image], boxes=[box], proposals=0)
    assert found["masks"].shape == (1, 1, *mask.shape)


def test_features_are_those_of_imagenet_with_frozen_statistics():
    released = EfficientNetLite0(stride=32)
    released.load_state_dict(released_weights()[0])
    image = torch.rand(3, 64, 96)
    expected = released.eval()(image[None])
    network = eosvos_lite(weights="imagenet", **SIZES)
    norms = nn.BatchNorm2d, FrozenBatchNorm2d
    assert not any(isinstance(module, norms) for module in network.modules())
    images, _ = network.transform([image])
    for training in (False, True):
        levels = network.train(training).backbone.body(images.tensors)
        for found, wanted in zip(levels.values(), expected.values(), strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)


def test_a_file_describes_its_network(tmp_path):
    for network in (tiny(norm="none", mask_levels=3, frozen_layers=3), eosvos_lite()):
        rates = initial_rates(network)
        save_eosvos(network, rates, tmp_path / "whole.safetensors")
        again, its_rates = load_eosvos(tmp_path / "whole.safetensors")
        assert again.sizes == network.sizes
        torch.testing.assert_close(again.state_dict(), network.state_dict(), rtol=0, atol=0)
        torch.testing.assert_close(its_rates.state_dict(), rates.state_dict(), rtol=0, atol=0)
        frozen = {name for name, p in network.named_parameters() if not p.requires_grad}
        assert frozen == {name for name, p in again.named_parameters() if not p.requires_grad}


def test_a_file_in_half_precision_is_small_and_keeps_small_rates(tmp_path):
    network = eosvos_lite()
    rates = initial_rates(network, rate=1e-5)  # which half precision rounds by several percent
    save_eosvos(network, rates, tmp_path / "half.safetensors", half=True)
    assert (tmp_path / "half.safetensors").stat().st_size < MOST
    again, its_rates = load_eosvos(tmp_path / "half.safetensors")
    torch.testing.assert_close(its_rates.state_dict(), rates.state_dict(), rtol=0, atol=0)
    for name, tensor in network.state_dict().items():
        found = again.state_dict()[name]
        assert found.dtype == torch.float32
        assert (found - tensor).abs().max() <= 1e-3 * tensor.abs().max(), name


def test_boxes_and_losses_keep_their_precision_in_bfloat16():
    torch.manual_seed(0)
    network, task = eosvos_lite(weights="imagenet", **SIZES), batch()
    torch.manual_seed(0)  # the same anchors and boxes in both
    whole = training_loss(network, task)
    network.autocast = torch.bfloat16
    torch.manual_seed(0)
    half = training_loss(network, task)
    assert half.dtype == torch.float32
    assert half.item() != whole.item()
    assert half.item() == pytest.approx(whole.item(), rel=0.1)
    (found,) = network(task.images)
    assert {found[name].dtype for name in ("boxes", "scores", "masks")} == {torch.float32}


def test_the_command_trains_it(tmp_path):
    davis = write_davis(tmp_path / "davis", ["cat", "cow", "dog"])
    save_eosvos(tiny(), il.LearningRates(tiny(), per="model"), tmp_path / "start.safetensors")
    start = tmp_path / "start.safetensors"
    for phase in ("parent", "meta"):
        words = (
            f"--phase {phase} --davis {davis} --out {tmp_path / phase} --init {start} --paste 0.5 "
            "--iterations 2 --batch-size 1 --bfloat16 --held-out dog --held-out-frames 3 "
            "--held-out-steps 1 --held-out-tasks 1"
        )
        assert train_eosvos_from_arguments(parse(words), torch.device("cpu"))
        start = tmp_path / phase / WEIGHTS
    network, rates = load_eosvos(start)
    assert network.builder == "eosvos_lite"
    assert rates.per == "neuron"


def test_the_command_starts_from_imagenet():
    words = "--phase parent --davis DAVIS --out OUT --frozen-layers 3"
    network = _network(read_fields(parse(words), NetworkOptions))
    expected = eosvos_lite(weights="imagenet").backbone.body.state_dict()
    assert network.builder == "eosvos_lite"
    assert network.sizes["frozen_layers"] == 3
    torch.testing.assert_close(network.backbone.body.state_dict(), expected, rtol=0, atol=0)
    plain = "--norm none --mask-loss cross-entropy"
    network = _network(read_fields(parse(f"{words} {plain}"), NetworkOptions))
    assert (network.sizes["norm"], network.sizes["mask_loss"]) == ("none", "cross-entropy")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("--backbone-weights FILE", "--backbone-weights: lite has those of ImageNet"),
        ("--norm frozen", "--norm: lite has group or none, not frozen"),
        ("--network resnet50 --norm none", "--norm: resnet50 has group or frozen, not none"),
    ],
)
def test_networks_refuse_what_they_do_not_have(more, message):
    words = f"--phase parent --davis DAVIS --out OUT {more}"
    with pytest.raises(InputError, match=message):
        _network(read_fields(parse(words), NetworkOptions))


@pytest.mark.parametrize("fast", [True, False])
def test_the_method_computes_in_half_precision_where_that_is_fast(monkeypatch, fast):
    monkeypatch.setattr(eosvos, "fast_bfloat16", lambda device: fast)
    options = MethodOptions(
        solver=None, backbone=None, speed=None, steps=1, online=False, settings=()
    )
    cpu = torch.device("cpu")
    assert eosvos.build(options, None, cpu).options.half == fast
    other = replace(options, settings=(f"half={not fast}",))
    assert eosvos.build(other, None, cpu).options.half != fast
