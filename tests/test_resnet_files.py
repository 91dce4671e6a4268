"""ResNet-50s in the files of others: their names, their style, and what LWL makes of them."""

import argparse

import pytest
import torch
from lwl_tiny import TINY_SIZES
from safetensors.torch import save_file
from torchvision.models import resnet50
from torchvision.models.detection import maskrcnn_resnet50_fpn

from innerloop.errors import InputError
from innerloop_vos.backbones import ResNet50
from innerloop_vos.backbones.resnet_files import read_resnet50, with_epsilon
from innerloop_vos.lwl import load_lwl, lwl_resnet50, save_lwl
from innerloop_vos.lwl.model.backbone import CaffeResNet50
from innerloop_vos.lwl.training import command

MEAN, STD = (torch.tensor(v)[:, None, None] for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))


def shaken(state):
    """Weights with statistics as of a trained network."""
    generator = torch.Generator().manual_seed(0)
    for name, value in state.items():
        if name.endswith(("running_mean", "running_var")):
            value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
    return state


def start(*words):
    parser = argparse.ArgumentParser()
    command.add_lwl_arguments(parser)
    words = ["--stage", "1", "--out", "x", *map(str, words)]
    given = vars(parser.parse_args(words))
    names = ("init", "backbone_weights", "backbone_style")
    return command._network(command.NetworkOptions(**{name: given[name] for name in names}))


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """LWL with narrow parts behind its backbone."""
    monkeypatch.setattr(command, "lwl_resnet50", lambda **more: lwl_resnet50(**(TINY_SIZES | more)))


def test_the_backbone_of_mask_rcnn_is_run_as_in_it(tmp_path):
    torch.manual_seed(0)
    detector = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None).eval()
    shaken(detector.backbone.state_dict())
    for module in detector.backbone.modules():
        if hasattr(module, "running_var"):
            module.eps = 0.0  # as torchvision's own weights are run
    torch.save(detector.state_dict(), tmp_path / "coco.pth")
    network = start("--backbone-weights", tmp_path / "coco.pth")
    assert network.sizes["backbone"] == "torchvision"
    image = torch.rand(1, 3, 64, 64)
    theirs = detector.backbone.body((image - MEAN) / STD)
    ours = network.feature_extractor(image)
    for index in range(4):
        expected = theirs[str(index)]
        torch.testing.assert_close(ours[f"layer{index + 1}"], expected, rtol=1e-3, atol=1e-3)
    with pytest.raises(InputError, match=r"coco\.pth is in the style of torchvision by its names"):
        start("--backbone-weights", tmp_path / "coco.pth", "--backbone-style", "caffe")


def test_a_resnet_alone_is_run_as_it_is_said(tmp_path):
    torch.manual_seed(0)
    net = resnet50().eval()
    shaken(net.state_dict())
    torch.save(net.state_dict(), tmp_path / "imagenet.pth")
    words = ("--backbone-weights", tmp_path / "imagenet.pth")
    with pytest.raises(InputError, match=r"--backbone-style: .*imagenet\.pth is of a ResNet-50 al"):
        start(*words)
    image = torch.rand(1, 3, 64, 64)
    as_torchvision = start(*words, "--backbone-style", "torchvision").feature_extractor
    as_caffe = start(*words, "--backbone-style", "caffe").feature_extractor
    assert type(as_torchvision) is ResNet50
    assert type(as_caffe) is CaffeResNet50
    x = net.maxpool(net.relu(net.bn1(net.conv1((image - MEAN) / STD))))
    torch.testing.assert_close(as_torchvision(image)["layer1"], net.layer1(x), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(as_caffe(image)["layer2"], net.layer2(net.layer1(x)), rtol=0.1)


def test_maskrcnn_benchmark_is_in_the_style_of_caffe(tmp_path):
    state = shaken(CaffeResNet50().state_dict())
    stem = ("conv1.", "bn1.")
    theirs = {
        f"module.backbone.body.{'stem.' if name.startswith(stem) else ''}{name}": value
        for name, value in state.items()
        if "tracked" not in name
    }
    theirs["module.rpn.head.conv.weight"] = torch.zeros(1)
    torch.save({"model": theirs, "iteration": 90_000}, tmp_path / "r50.pth")
    network = start("--backbone-weights", tmp_path / "r50.pth")
    assert "backbone" not in network.sizes
    for name, value in network.feature_extractor.state_dict().items():
        assert torch.equal(value, state[name]), name


def test_a_file_without_a_resnet(tmp_path):
    save_file({"a": torch.zeros(2)}, tmp_path / "other.safetensors")
    words = ("--backbone-weights", tmp_path / "other.safetensors", "--backbone-style", "caffe")
    with pytest.raises(InputError, match=r"does not fit: 265 missing .*; 1 unknown \(a\)"):
        start(*words)


def test_the_style_is_kept_in_files_of_lwl(tmp_path):
    for style, kind in (("caffe", CaffeResNet50), ("torchvision", ResNet50)):
        network = lwl_resnet50(backbone=style, **TINY_SIZES)
        save_lwl(network, tmp_path / "net.safetensors")
        again = load_lwl(tmp_path / "net.safetensors")
        assert type(again.feature_extractor) is kind
        assert again.sizes == network.sizes


def test_the_epsilon_of_frozen_statistics_is_none():
    state = {"bn.running_var": torch.tensor([1.0, 2.0]), "bn.weight": torch.ones(2)}
    found = with_epsilon(state)
    torch.testing.assert_close(found["bn.running_var"] + 1e-5, state["bn.running_var"])
    assert torch.equal(found["bn.weight"], state["bn.weight"])
    counted = state | {"bn.num_batches_tracked": torch.tensor(3)}
    assert torch.equal(with_epsilon(counted)["bn.running_var"], state["bn.running_var"])


def test_the_file_to_fetch_is_named():
    with pytest.raises(
        InputError, match=r"such as https://download\.pytorch\.org/models/maskrcnn/e2e"
    ):
        start()


def test_names_of_a_resnet_alone_say_nothing_of_its_style(tmp_path):
    save_file({"conv1.weight": torch.zeros(1)}, tmp_path / "net.safetensors")
    state, style = read_resnet50(tmp_path / "net.safetensors")
    assert style is None
    assert list(state) == ["conv1.weight"]
