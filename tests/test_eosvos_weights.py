"""e-OSVOS's weight files: converting released checkpoints, files that describe their network."""

import os

import pytest
import torch
from eosvos_goldens import former_name, state_shapes
from safetensors.torch import save_file
from shared import needs_shared

import innerloop as il
from innerloop.errors import InputError
from innerloop_vos.cli import main
from innerloop_vos.data import photo_clip, synthetic_clip
from innerloop_vos.eosvos import eosvos_mobilenet_v2, eosvos_resnet50, load_eosvos, save_eosvos
from innerloop_vos.eosvos.boxes import mask_boxes
from innerloop_vos.eosvos.finetuning import initial_rates
from innerloop_vos.io.masks import read_mask, write_mask
from innerloop_vos.io.video import write_video
from innerloop_vos.scoring import region_similarity

TINY = {"channels": 8, "image_size": (48, 64), "box_features": 8, "mask_features": 8}


class Code:
    """What a checkpoint may have beside its tensors, here with bad intent."""

    def __init__(self, sign):
        self.sign = sign

    def __reduce__(self):
        return os.system, (f"touch {self.sign}",)


def released(network, rates, rename=str):
    state = {f"log_init_lr_{rename(k)}": v for k, v in rates().items()}
    state |= {f"model_init_{rename(k)}": v for k, v in network.named_parameters()}
    return {name.replace(".", "-"): value.detach() for name, value in state.items()}


@pytest.fixture(scope="module")
def resnet():
    network = eosvos_resnet50()
    return network, initial_rates(network)


def assert_same(module, expected):
    torch.testing.assert_close(module.state_dict(), expected.state_dict(), rtol=0, atol=0)


@needs_shared
def test_the_names_are_the_released_ones(resnet):
    shapes = {name: list(value.shape) for name, value in released(*resnet).items()}
    assert shapes == state_shapes("meta_optim")


@pytest.mark.parametrize("rename", [str, former_name])
def test_a_released_checkpoint_is_converted_without_running_its_code(
    tmp_path, capsys, resnet, rename
):
    checkpoint, out, sign = (tmp_path / name for name in ("c.pth", "w.safetensors", "sign"))
    state = released(*resnet, rename) | {"extra": torch.ones(2)}
    torch.save({"epoch": 3, "state": {"meta": state}, "code": Code(sign)}, checkpoint)
    assert main(["convert", "e-osvos", str(checkpoint), str(out)]) == 0
    assert not sign.exists()
    printed = capsys.readouterr().out
    assert "201 tensors, 43975515 numbers, and 201 tensors, 90998 numbers that are" in printed
    assert "no place for 1 tensors: extra" in printed
    network, rates = load_eosvos(out)
    assert_same(network, resnet[0])
    assert_same(rates, resnet[1])


def test_what_does_not_fit_is_named(tmp_path, capsys, resnet):
    state = released(*resnet)
    del state["log_init_lr_rpn-head-cls_logits-bias"]
    arguments = ["convert", "e-osvos", str(tmp_path / "c.pth"), str(tmp_path / "w.safetensors")]
    for content, message in [
        (state, "1 missing (rpn-head-cls_logits-bias)"),
        ({"net": resnet[0].state_dict()}, "holds no meta-learned initialisation"),
    ]:
        torch.save(content, tmp_path / "c.pth")
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert message in error
        assert "c.pth" in error
    assert not (tmp_path / "w.safetensors").exists()


@pytest.mark.parametrize("per", ["model", "tensor", "neuron"])
def test_a_file_describes_its_network(tmp_path, per):
    network = eosvos_mobilenet_v2(**TINY)
    rates = il.LearningRates(network, per=per, init=0.02)
    save_eosvos(network, rates, tmp_path / "w.safetensors")
    found, found_rates = load_eosvos(tmp_path / "w.safetensors")
    assert found.sizes == network.sizes
    assert found_rates.per == per
    assert_same(found, network)
    assert_same(found_rates, rates)


def test_files_of_other_kinds_are_refused(tmp_path):
    network = eosvos_mobilenet_v2(**TINY)
    with pytest.raises(InputError, match=r"should end in \.safetensors"):
        save_eosvos(network, initial_rates(network), tmp_path / "w.pth")
    save_file(network.state_dict(), tmp_path / "plain.safetensors")
    torch.save(network.state_dict(), tmp_path / "plain.pth")
    for name in ("plain.safetensors", "plain.pth"):
        with pytest.raises(InputError, match="does not say which e-OSVOS network"):
            load_eosvos(tmp_path / name)


def test_the_command_line_segments_with_e_osvos(tmp_path, capsys):
    frames, masks = synthetic_clip(length=3, size=(48, 64), objects=2, seed=1)
    clip, mask, out = tmp_path / "clip.mp4", tmp_path / "mask.png", tmp_path / "out"
    write_video(clip, frames, rate=12)
    write_mask(mask, masks[0])
    network = eosvos_mobilenet_v2(**TINY)
    save_eosvos(network, initial_rates(network), tmp_path / "w.safetensors")
    arguments = ["segment", str(clip), "--out", str(out), "--method", "e-osvos"]
    arguments += ["--mask", str(mask)]
    weights = ["--weights", str(tmp_path / "w.safetensors")]
    assert main([*arguments, *weights, "--steps", "1", "--no-online-adaptation"]) == 0
    assert torch.equal(read_mask(out / "00000.png"), masks[0])
    for wrong, message in [
        ([*weights, "--steps", "-1"], "steps: -1, should be at least 0"),
        ([*weights, "--solver", "exact"], "e-osvos has its own, gradient descent"),
    ]:
        assert main([*arguments, *wrong]) == 2
        assert message in capsys.readouterr().err


@pytest.fixture(scope="module")
def clip():
    frames, masks = photo_clip()
    return frames[:3], (masks[:3] == 1).byte()


@pytest.mark.parametrize("start", ["mask", "box"])
def test_the_weights_that_ship_follow_an_object(tmp_path, clip, start):
    frames, masks = clip
    write_video(tmp_path / "clip.mp4", frames, rate=12)
    write_mask(tmp_path / "mask.png", masks[0])
    left, top, right, bottom = mask_boxes(masks[:1])[0].int().tolist()
    box = f"{left},{top},{right - left},{bottom - top}"
    given = ["--mask", str(tmp_path / "mask.png")] if start == "mask" else ["--box", box]
    out = tmp_path / "out"
    arguments = ["segment", str(tmp_path / "clip.mp4"), *given, "--out", str(out)]
    quick = ["--steps", "3", "--option", "copies=1"]
    assert main([*arguments, "--method", "e-osvos", *quick]) == 0
    for t, mask in enumerate(masks):
        found = read_mask(out / f"{t:05d}.png")
        assert region_similarity(found == 1, mask == 1) > 0.7
