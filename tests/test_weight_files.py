"""Weight files: reading any of them safely, and our own, which say what network they hold."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lwl_tiny import tiny_lwl
from safetensors.torch import load_file, save, save_file
from torch import nn

from innerloop.errors import InputError
from innerloop_vos.eosvos import eosvos_mobilenet_v2, load_eosvos, save_eosvos
from innerloop_vos.eosvos.finetuning import initial_rates
from innerloop_vos.lwl import load_lwl, save_lwl
from innerloop_vos.weight_files import (
    Kind,
    fit_known,
    fit_same,
    halved,
    load_network,
    read_network,
    read_weights,
    write_network,
)
from innerloop_vos.weight_files.sizes import WIDTH, check_sizes, one_of, several, whole

TINY_EOSVOS = {"channels": 8, "image_size": (48, 64), "box_features": 8, "mask_features": 8}
RECIPE = {"builder": "linear", "sizes": {"inputs": 2, "outputs": 3}}


def linear(recipe: dict[str, Any]) -> nn.Linear:
    return nn.Linear(recipe["sizes"]["inputs"], recipe["sizes"]["outputs"])


LINEAR = Kind("linear", linear, {"inputs": WIDTH, "outputs": WIDTH}, "convert linear")


class Trap:
    """Unpickling an instance makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def test_unreadable_files_are_refused_and_run_no_code(tmp_path: Path) -> None:
    torch.save({"x": Trap(tmp_path / "sprung")}, tmp_path / "trap.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({"epoch": 3}, tmp_path / "numbers.pth")
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    (tmp_path / "cut.pth").write_bytes(b"PK\x03\x04")
    (tmp_path / "empty.pth").touch()
    for path in [*tmp_path.iterdir(), tmp_path / "absent.pth", tmp_path]:
        with pytest.raises(InputError, match=str(path)):
            read_weights(path)
    assert not (tmp_path / "sprung").exists()


def test_a_network_is_built_again_from_its_file(tmp_path: Path) -> None:
    network, path = nn.Linear(2, 3), tmp_path / "w.safetensors"
    write_network(path, network.state_dict(), RECIPE)
    found = load_network(path, LINEAR)
    torch.testing.assert_close(found.state_dict(), network.state_dict(), rtol=0, atol=0)
    assert read_network(path)[1] == RECIPE
    assert read_weights(path).keys() == network.state_dict().keys()


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"builder": "linear"}, "its sizes are missing"),
        ({"sizes": {"inputs": 0, "outputs": 3}}, "its sizes have inputs = 0"),
        ({"sizes": {"width": 2}}, "its sizes have width = 2"),
        ({"sizes": {"inputs": 2, "outputs": 2}}, r"weight is \(3, 2\), not \(2, 2\)"),
        ({**RECIPE, "version": 2}, "has version 2 of the format, should be at most 1"),
        ({**RECIPE, "version": "1"}, "has version 1 of the format, should be at most 1"),
        ([1], "does not say which linear network .* 'convert linear' writes such a file"),
    ],
)
def test_a_file_that_describes_another_network_is_refused(
    tmp_path: Path, recipe: Any, message: str
) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(save(nn.Linear(2, 3).state_dict(), {"network": json.dumps(recipe)}))
    with pytest.raises(InputError, match=message) as caught:
        load_network(path, LINEAR)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_networks_of_an_earlier_version_are_named(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    write_network(path, {}, RECIPE | {"builder": "cubic"})
    kind = replace(LINEAR, gone={"cubic": "linear"})
    with pytest.raises(InputError, match=r"holds cubic, .* earlier version .*; linear takes"):
        load_network(path, kind)


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([1.0, -3e-9, 0.1], torch.float16),
        ([0.0, 0.0], torch.float16),
        ([7e4, 1.0], torch.float32),  # beyond the largest
        ([1e-6, -3e-6], torch.float32),  # so small that few digits are left
        ([1, 2], torch.int64),
    ],
)
def test_half_precision_is_for_tensors_that_it_holds(values: Any, dtype: torch.dtype) -> None:
    tensor = torch.tensor(values)
    found = halved(tensor)
    assert found.dtype == dtype
    assert (found - tensor).abs().max() <= 1e-3 * tensor.abs().max()


def test_files_without_a_version_are_of_the_first(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(save(nn.Linear(2, 3).state_dict(), {"network": json.dumps(RECIPE)}))
    assert load_network(path, LINEAR).weight.shape == (3, 2)


def test_what_a_plain_file_says_of_its_network_is_nothing(tmp_path: Path) -> None:
    state = nn.Linear(2, 3).state_dict()
    save_file(state, tmp_path / "plain.safetensors")
    torch.save(state, tmp_path / "plain.pth")
    for name in ("plain.safetensors", "plain.pth"):
        assert read_network(tmp_path / name)[1] == {}


def test_the_network_of_another_method_is_named(tmp_path: Path) -> None:
    path, network = tmp_path / "w.safetensors", eosvos_mobilenet_v2(**TINY_EOSVOS)
    save_lwl(tiny_lwl(), path)
    with pytest.raises(InputError, match="does not say which e-OSVOS network it holds"):
        load_eosvos(path)
    save_eosvos(network, initial_rates(network), path)
    with pytest.raises(InputError, match="does not say which LWL network it holds"):
        load_lwl(path)
    write_network(path, {}, {"builder": "vgg", "sizes": {}})
    with pytest.raises(InputError, match="its builder is vgg, should be lwl_resnet50"):
        load_lwl(path)


def test_e_osvos_names_tensors_by_their_part(tmp_path: Path) -> None:
    path, network = tmp_path / "w.safetensors", eosvos_mobilenet_v2(**TINY_EOSVOS)
    rates = initial_rates(network)
    save_eosvos(network, rates, path)
    names = {f"model.{name}" for name in network.state_dict()}
    names |= {f"rates.{name}" for name in rates.state_dict()}
    assert load_file(path).keys() == names


def test_fitting_what_is_known_returns_the_rest() -> None:
    network, other = nn.Linear(2, 3), nn.Linear(2, 3)
    state = other.state_dict() | {"z": torch.ones(1), "a": torch.ones(1)}
    assert fit_known(network, state, "file") == ["a", "z"]
    assert torch.equal(network.weight, other.weight)
    with pytest.raises(InputError, match=r"file does not fit: 1 missing \(bias\)"):
        fit_known(network, {"weight": other.weight}, "file")


def test_fitting_what_is_the_same_returns_what_stays() -> None:
    network, other = nn.Linear(2, 3), nn.Linear(5, 3)
    before = network.weight.detach().clone()
    assert fit_same(network, other.state_dict()) == ["weight"]
    assert torch.equal(network.bias, other.bias)
    assert torch.equal(network.weight, before)


@pytest.mark.parametrize("value", [True, 1.0, "1", None, [1], 0, 10])
def test_sizes_of_another_type_or_range_are_refused(value: Any) -> None:
    checks = {"n": whole(1, 9), "several": several(2, whole(1, 9)), "one": one_of(1, "a")}
    check_sizes({"n": 1, "several": [1, 9], "one": "a"}, checks)
    for sizes in ({"n": value}, {"several": [1, value]}, {"several": [1]}, {"one": value}):
        with pytest.raises(ValueError, match="its sizes have"):
            check_sizes(sizes, checks)
