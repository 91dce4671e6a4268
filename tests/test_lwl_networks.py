"""The networks of LWL against reference numbers of the released system."""

import json

import pytest
import torch
from lwl_goldens import GOLDENS, load, seeded_state, state_shapes
from lwl_tiny import tiny_lwl
from shared import needs_shared

from innerloop.errors import InputError
from innerloop_vos.lwl import load_lwl, lwl_efficientnet_lite0, lwl_resnet50, save_lwl
from innerloop_vos.training.losses import lovasz_sigmoid
from innerloop_vos.weight_files import write_network


def relative(value, golden):
    return ((value - golden).abs().max() / golden.abs().max()).item()


@pytest.fixture(scope="module")
def golden():
    return load("net.npz")


@pytest.fixture(scope="module")
def network(golden):
    """The released network with the seeded weights; images are fed as stored, not normalised."""
    state = seeded_state()
    for name, values in golden.items():
        if name.startswith("check."):
            assert torch.equal(state[name.removeprefix("check.")].flatten()[:4], values)
    network = lwl_resnet50()
    network.load_state_dict(state)
    network.feature_extractor.forward = network.feature_extractor.extract
    return network


@needs_shared
@pytest.mark.parametrize("box", [False, True])
def test_names_and_shapes_are_the_released_ones(box):
    with torch.device("meta"):
        network = lwl_resnet50(box=box)
    found = {key: list(value.shape) for key, value in network.state_dict().items()}
    expected = state_shapes("lwl") | (state_shapes("boxonly") if box else {})
    assert found == expected
    assert len(state_shapes("lwl")) == 480


@needs_shared
@torch.no_grad()
def test_label_encoder_golden(network, golden):
    labels, weights = network.label_encoder(golden["le.mask"])
    torch.testing.assert_close(labels, golden["le.label"], rtol=0, atol=1e-5)
    torch.testing.assert_close(weights, golden["le.sw"], rtol=0, atol=1e-5)


@needs_shared
@torch.no_grad()
def test_backbone_and_target_features_golden(network, golden):
    levels, features = network.extract(golden["bb.im"])
    for name, level in levels.items():
        assert relative(level.mean((2, 3)), golden[f"bb.{name}.mean"]) <= 2e-5
        assert relative(level[:, :8], golden[f"bb.{name}.slice"]) <= 2e-5
    assert relative(features, golden["bb.tm"]) <= 2e-5


@needs_shared
@torch.no_grad()
def test_decoder_golden(network, golden):
    refined = {}
    hooks = [
        module.register_forward_hook(lambda *call, level=level: refined.update({level: call[-1]}))
        for level, module in network.decoder.RRB2.items()
    ]
    levels, _ = network.extract(golden["bb.im"])
    logits = network.decoder(golden["dec.scores"][:, 0], levels, golden["bb.im"].shape[-2:])
    for hook in hooks:
        hook.remove()
    for level, value in refined.items():
        assert relative(value[:, :8], golden[f"dec.{level}_dec"]) <= 2e-5
    assert relative(logits, golden["dec.out"][:, 0]) <= 2e-5


@needs_shared
def test_sequence_and_its_gradients_golden(network, golden):
    norms = json.loads((GOLDENS / "seq_grads.json").read_text())
    inputs = [golden[f"seq.{name}"].transpose(0, 1) for name in ("tr", "train_masks", "te")]
    logits = network(*inputs).transpose(0, 1)
    assert (logits - golden["seq.out"]).abs().max() <= 2e-4
    loss = 100 * lovasz_sigmoid(logits, golden["seq.test_masks"])
    assert (loss - golden["seq.loss"]).abs() <= 1e-4

    parameters = {name: p for name, p in network.named_parameters() if name in norms}
    assert len(parameters) == len(norms) == 264
    gradients = torch.autograd.grad(loss, list(parameters.values()))
    for name, gradient in zip(parameters, gradients, strict=True):
        norm, total, *head = norms[name]
        assert gradient.norm().item() == pytest.approx(norm, rel=1e-3), name
        allowed = 1e-4 * norm
        assert abs(gradient.sum().item() - total) <= allowed * gradient.numel() ** 0.5, name
        error = (gradient.flatten()[: len(head)] - torch.tensor(head)).abs().max()
        assert error <= allowed, name


@needs_shared
@torch.no_grad()
def test_sequence_golden_in_float64(network, golden):
    inputs = [golden[f"seq.{name}"].transpose(0, 1) for name in ("tr", "train_masks", "te")]
    network.double()
    logits = network(*(x.double() for x in inputs)).transpose(0, 1)
    network.float()
    assert relative(logits, golden["seq.out64"]) <= 1e-6


@torch.no_grad()
def test_images_of_any_size_are_segmented():
    images, masks = torch.rand(2, 3, 3, 50, 70), torch.rand(2, 3, 50, 70)
    logits = tiny_lwl()(images[:, :1], masks[:, :1], images[:, 1:], steps=1)
    assert logits.shape == (2, 2, 50, 70)
    assert logits.isfinite().all()


@torch.no_grad()
def test_sequences_are_independent():
    network = tiny_lwl().double()
    images, masks = torch.rand(2, 3, 3, 48, 64).double(), torch.rand(2, 3, 48, 64).double()
    together = network(images[:, :1], masks[:, :1], images[:, 1:])
    alone = network(images[1:, :1], masks[1:, :1], images[1:, 1:])
    torch.testing.assert_close(together[1:], alone)


def test_normalisation_keeps_its_running_statistics_in_training():
    network = lwl_resnet50(decoder_widths=(8, 8, 8, 4)).train()
    before = {k: v.clone() for k, v in network.state_dict().items() if "running" in k}
    network(torch.rand(1, 1, 3, 32, 32), torch.rand(1, 1, 32, 32), torch.rand(1, 1, 3, 32, 32))
    after = network.state_dict()
    assert all(torch.equal(after[k], v) for k, v in before.items())
    assert network.training


@torch.no_grad()
def test_boxes_need_a_box_encoder():
    images, boxes = torch.rand(2, 3, 50, 70), torch.ones(2, 50, 70).tril()
    assert tiny_lwl(box=True).segment_box(images, boxes).shape == (2, 50, 70)
    with pytest.raises(ValueError, match="no box encoder"):
        tiny_lwl().segment_box(images, boxes)


def test_the_network_on_efficientnet_lite0_is_written_and_read(tmp_path):
    torch.manual_seed(0)
    network = lwl_efficientnet_lite0(outputs=3)
    images, masks = torch.rand(1, 2, 3, 64, 96), (torch.rand(1, 1, 64, 96) > 0.5).float()
    save_lwl(network, tmp_path / "lwl.safetensors")
    again = load_lwl(tmp_path / "lwl.safetensors")
    with torch.no_grad():
        found, expected = (net(images[:, :1], masks, images[:, 1:]) for net in (again, network))
    assert torch.equal(found, expected)
    assert again.builder == "lwl_efficientnet_lite0"
    recipe = {"builder": again.builder, "sizes": {**network.sizes, "backbone": "caffe"}}
    write_network(tmp_path / "bad.safetensors", network.state_dict(), recipe)
    with pytest.raises(InputError, match="does not say which LWL network it holds"):
        load_lwl(tmp_path / "bad.safetensors")
