"""LWL's weight files: converting released checkpoints, and files that describe their network."""

import contextlib
import json
import os

import pytest
import torch
from lwl_tiny import tiny_lwl
from safetensors.torch import load_file, save, save_file

from innerloop.errors import InputError
from innerloop_vos.cli import main
from innerloop_vos.data import synthetic_clip
from innerloop_vos.io.masks import read_mask, write_mask
from innerloop_vos.io.video import write_video
from innerloop_vos.lwl import load_lwl, lwl_resnet50, save_lwl


class Constructor:
    """What a released checkpoint has beside its weights, here with bad intent."""

    def __init__(self, sign):
        self.sign = sign

    def __reduce__(self):
        return os.system, (f"touch {self.sign}",)


@pytest.mark.parametrize("box", [False, True])
def test_a_released_checkpoint_is_converted_without_running_its_code(tmp_path, capsys, box):
    network = lwl_resnet50(box=box)
    net = network.state_dict() | {"extra.weight": torch.ones(2)}
    checkpoint, out, sign = (tmp_path / name for name in ("c.pth.tar", "w.safetensors", "sign"))
    saved = {"net": net, "net_type": "SteepestDescent", "constructor": Constructor(sign)}
    torch.save(saved, checkpoint, _use_new_zipfile_serialization=box)
    assert main(["convert", "lwl", str(checkpoint), str(out)]) == 0
    assert not sign.exists()
    printed = capsys.readouterr().out
    assert f"{490 if box else 480} tensors" in printed
    assert "no place for 1 tensors: extra.weight" in printed
    found = load_lwl(out)
    torch.testing.assert_close(found.state_dict(), network.state_dict(), rtol=0, atol=0)
    assert (found.box_label_encoder is not None) == box


def test_what_does_not_fit_is_named(tmp_path, capsys):
    net = lwl_resnet50().state_dict()
    net["decoder.project.conv1.bias"] = torch.ones(3)
    del net["label_encoder.samp_w_pred.bias"]
    for content, message in [
        ({"net": net}, "1 missing (label_encoder.samp_w_pred.bias)"),
        ({"net": net}, "1 of another shape (decoder.project.conv1.bias is (3,), not (32,))"),
        ({"state": net}, "no weights under the key 'net'"),
        ([1, 2], "no weights under the key 'net'"),
    ]:
        torch.save(content, tmp_path / "c.pth")
        assert (
            main(["convert", "lwl", str(tmp_path / "c.pth"), str(tmp_path / "w.safetensors")]) == 2
        )
        error = capsys.readouterr().err
        assert message in error
        assert "c.pth" in error
    assert not (tmp_path / "w.safetensors").exists()


@pytest.mark.usefixtures("tiny_backbone")
@pytest.mark.parametrize("box", [False, True])
def test_a_file_describes_its_network(tmp_path, box):
    network = tiny_lwl(features=8, box=box)
    save_lwl(network, tmp_path / "w.safetensors")
    found = load_lwl(tmp_path / "w.safetensors")
    assert found.sizes == network.sizes
    torch.testing.assert_close(found.state_dict(), network.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("builder", ["lwl_small", "lwl_mobilenet_v2"])
def test_networks_of_an_earlier_version_are_named(tmp_path, capsys, builder):
    sizes = {"stride": 8, "features": 513, "mask_label": True, "colours": 64, "box": True}
    recipe = {"builder": builder, "sizes": sizes, "preset": {"mask": {}}, "version": 1}
    path = tmp_path / "w.safetensors"
    path.write_bytes(save({"x": torch.ones(1)}, {"network": json.dumps(recipe)}))
    write_mask(tmp_path / "mask.png", torch.ones(40, 50, dtype=torch.uint8))
    write_video(tmp_path / "clip.mp4", torch.zeros(2, 3, 40, 50, dtype=torch.uint8), rate=12)
    words = ["segment", "clip.mp4", "--mask", "mask.png", "--out", "out", "--weights", path.name]
    with contextlib.chdir(tmp_path):
        assert main([*words, "--method", "lwl"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"w.safetensors holds {builder}, a network of an earlier version" in line
    assert "lwl-lite (--method lwl-lite, without --weights) takes its place" in line


def test_files_of_other_kinds_are_refused(tmp_path):
    network = tiny_lwl()
    with pytest.raises(InputError, match=r"should end in \.safetensors"):
        save_lwl(network, tmp_path / "w.pth")
    with pytest.raises(InputError, match="cannot write"):
        save_lwl(network, tmp_path / "missing" / "w.safetensors")
    save_file(network.state_dict(), tmp_path / "plain.safetensors")
    with pytest.raises(InputError, match="does not say which LWL network"):
        load_lwl(tmp_path / "plain.safetensors")
    torch.save(network.state_dict(), tmp_path / "plain.pth")
    with pytest.raises(InputError, match="does not say which LWL network"):
        load_lwl(tmp_path / "plain.pth")
    save_lwl(network, tmp_path / "w.safetensors")
    assert len(load_file(tmp_path / "w.safetensors")) == len(network.state_dict())


@pytest.mark.usefixtures("tiny_backbone")
def test_the_command_line_segments_with_lwl(tmp_path, capsys):
    frames, masks = synthetic_clip(length=3, size=(96, 160), objects=1, seed=1)
    clip, mask, out = tmp_path / "clip.mp4", tmp_path / "mask.png", tmp_path / "out"
    write_video(clip, frames, rate=12)
    write_mask(mask, masks[0])
    save_lwl(tiny_lwl(box=True), tmp_path / "w.safetensors")
    arguments = ["segment", str(clip), "--out", str(out), "--method", "lwl"]
    weights = ["--weights", str(tmp_path / "w.safetensors")]
    assert main([*arguments, *weights, "--mask", str(mask)]) == 0
    assert torch.equal(read_mask(out / "00000.png"), masks[0])
    assert main([*arguments, *weights, "--box", "20,20,60,50", "--solver", "exact"]) == 0
    whole_frame = ["--option", "search_factor=None", "--option", "capacity=4"]
    assert main([*arguments, *weights, "--mask", str(mask), *whole_frame]) == 0
    assert main([*arguments, *weights, "--mask", str(mask), "--option", "capacity=0"]) == 2
    assert "option: capacity: 0, should be from 1 to 10000" in capsys.readouterr().err
    assert main([*arguments, "--mask", str(mask), "--backbone", "resnet50"]) == 2
    assert "that of lwl comes with its weights" in capsys.readouterr().err
