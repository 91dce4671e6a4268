"""Backbones: shapes, agreement with torchvision, folding, and what weight files may hold."""

import copy
from math import ceil
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from shared import SHARED, needs_shared
from torch import Tensor, nn
from torchvision.models import MobileNet_V2_Weights, mobilenet_v2, resnet50
from torchvision.models.feature_extraction import create_feature_extractor

from innerloop.errors import InputError
from innerloop_vos import backbones
from innerloop_vos.backbones import BACKBONES, backbone
from innerloop_vos.backbones.folding import fold_norms
from innerloop_vos.backbones.small import SmallBackbone
from innerloop_vos.data.davis import DavisDataset
from innerloop_vos.distill.distillation import HELD_OUT

VOC = SHARED / "weights" / "mobilenet_v2-voc.safetensors"
IMAGENET = SHARED / "weights" / "mobilenet_v2-imagenet.safetensors"


def normalised(images: Tensor) -> Tensor:
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    return (images - mean) / std


def with_random_norms(network: nn.Module) -> nn.Module:
    """Give every normalisation statistics that would show if they were lost."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
    return network


@pytest.mark.parametrize("size", [(64, 96), (75, 101), (33, 47)])
@pytest.mark.parametrize("name", BACKBONES)
def test_features_have_the_declared_channels_and_strides(name: str, size: tuple[int, int]) -> None:
    network = backbone(name, weights=None)
    with torch.inference_mode():
        features = network(torch.rand(2, 3, *size))
    assert features.keys() == network.levels.keys() >= set(network.target_levels)
    for level, (channels, stride) in (
        (key, (value.channels, value.stride)) for key, value in network.levels.items()
    ):
        rows, columns = (ceil(side / stride) for side in size)
        assert features[level].shape == (2, channels, rows, columns)


def test_backbones_are_ready_for_evaluation() -> None:
    assert not backbone("mobilenet_v2", weights=None).training


def test_mobilenet_v2_is_torchvisions_up_to_the_dilation(tmp_path: Path) -> None:
    theirs = with_random_norms(mobilenet_v2(weights=None)).eval()
    path = tmp_path / "weights.pth"
    torch.save(theirs.state_dict(), path)  # classifier and all
    images = torch.rand(1, 3, 64, 96, dtype=torch.float64)
    theirs.double()
    with torch.inference_mode():
        features = backbone("mobilenet_v2", path).double()(images)
        x = normalised(images)
        for index, block in enumerate(theirs.features[:14]):
            x = block(x)
            if (level := f"features.{index}") in features:
                torch.testing.assert_close(features[level], x, rtol=1e-6, atol=1e-6)


def test_mobilenet_v2_dilates_what_follows_the_removed_stride() -> None:
    network: Any = backbone("mobilenet_v2", weights=None)
    depthwise = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.groups > 1]
    assert [conv.dilation[0] for conv in depthwise] == [1] * 13 + [2] * 4
    assert sum(conv.stride[0] == 2 for conv in depthwise) == 3


def test_resnet50_is_torchvisions(tmp_path: Path) -> None:
    theirs = with_random_norms(resnet50(weights=None)).eval()
    path = tmp_path / "weights.safetensors"
    save_file(theirs.state_dict(), path)
    images = torch.rand(1, 3, 64, 96, dtype=torch.float64)
    theirs.double()
    with torch.inference_mode():
        features = backbone("resnet50", path).double()(images)
        expected = create_feature_extractor(theirs, list(features))(normalised(images))
    for level, value in expected.items():
        torch.testing.assert_close(features[level], value, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "build",
    [
        lambda: SmallBackbone(norm=True),
        lambda: backbone("efficientnet_lite0", weights=None),
        lambda: backbone("mobilenet_v2", weights=None),
    ],
)
def test_folding_keeps_the_features_and_leaves_no_norm(build: Any) -> None:
    network = with_random_norms(build()).double().eval()
    plain = copy.deepcopy(network)
    fold_norms(plain)
    images = torch.rand(1, 3, 50, 70, dtype=torch.float64)
    with torch.inference_mode():
        before, after = network(images), plain(images)
    for level in before:
        torch.testing.assert_close(after[level], before[level], rtol=1e-6, atol=1e-6)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in plain.modules())


def test_the_folded_small_backbone_is_the_plain_one() -> None:
    network = SmallBackbone(norm=True)
    fold_norms(network)
    plain = SmallBackbone()
    plain.load_state_dict(network.state_dict())


def test_half_precision_files_become_float32(tmp_path: Path) -> None:
    path = tmp_path / "half.safetensors"
    save_file(SmallBackbone().half().state_dict(), path)
    network = backbone("small", path)
    assert {p.dtype for p in network.parameters()} == {torch.float32}


def test_an_unknown_backbone_is_named() -> None:
    with pytest.raises(InputError, match=r"'vgg' is unknown; choose one of small, effic"):
        backbone("vgg")


def test_a_file_that_does_not_fit_says_how(tmp_path: Path) -> None:
    state = SmallBackbone().state_dict()
    state["head8.weight"] = state["head8.weight"][:5].clone()
    state["extra"] = state.pop("head8.bias")
    path = tmp_path / "other.safetensors"
    save_file(state, path)
    with pytest.raises(InputError) as caught:
        backbone("small", path)
    message = str(caught.value)
    assert str(path) in message
    assert "1 missing (head8.bias)" in message
    assert "1 unknown (extra)" in message
    assert "head8.weight is (5, 64, 1, 1), not (32, 64, 1, 1)" in message


def test_another_networks_file_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "small.safetensors"
    save_file(SmallBackbone().state_dict(), path)
    with pytest.raises(InputError, match=r"does not fit: \d+ missing \(bn1.*, \.\.\.\)"):
        backbone("resnet50", path)


def test_a_failed_download_asks_for_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise URLError("no route")

    monkeypatch.setattr(MobileNet_V2_Weights, "get_state_dict", offline)
    with pytest.raises(InputError, match=r"download.*no route.*name a local file"):
        backbone("mobilenet_v2")


@needs_shared
@pytest.mark.parametrize("path", [VOC, IMAGENET])
def test_released_mobilenets_load(path: Path) -> None:
    state = load_file(path)
    network = backbone("mobilenet_v2", path)
    name = "features.17.conv.2.weight"
    assert torch.equal(network.state_dict()[name], state[name])


def test_the_embedded_weights_are_small_finite_and_used() -> None:
    path = Path(backbones.__file__).parent / "small.safetensors"
    assert path.stat().st_size <= 8_000_000
    network, state = backbone("small"), load_file(path)
    for name, value in network.state_dict().items():
        assert value.isfinite().all()
        assert torch.equal(value, state[name].float())


@needs_shared
def test_the_embedded_backbone_sees_what_its_teacher_sees() -> None:
    student, teacher = backbone("small"), backbone("mobilenet_v2", VOC)
    # Sequences that were held out of the distillation, which measured 0.84, 0.71 and 0.66.
    clips = DavisDataset(SHARED / "data" / "DAVIS2016", sequences=HELD_OUT)
    images = torch.stack([clip.frames[20] for clip in clips]) / 255
    with torch.inference_mode():
        ours, theirs = student(images), teacher(images)
    levels = zip(student.target_levels, teacher.target_levels, strict=True)
    similarities = [F.cosine_similarity(ours[a], theirs[b], dim=1).mean() for a, b in levels]
    for similarity, least in zip(similarities, (0.8, 0.67, 0.6), strict=True):
        assert similarity > least


@needs_shared
def test_the_embedded_backbone_holds_no_tensor_of_its_teacher() -> None:
    ours, theirs = backbone("small").state_dict(), load_file(VOC)
    for a in ours.values():
        assert not any(a.shape == b.shape and torch.allclose(a, b) for b in theirs.values())
