"""Adapting modules: which parameters, which statistics, and what stays as it is."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import innerloop as il


def net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(27, 2)
    ).double()


def batch(seed=1):
    make = torch.Generator().manual_seed(seed)
    images = 2 + 3 * torch.randn(6, 1, 5, 5, generator=make, dtype=torch.float64)
    return images, torch.arange(6) % 2


def loss_of(images, labels):
    return lambda model: F.cross_entropy(model(images), labels)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("policy", ["frozen", "per_task", "batch_statistics"])
def test_the_module_never_changes(policy, training):
    module = net().train(training)
    before = copy.deepcopy(module.state_dict())
    adapted = il.adapt(module, loss_of(*batch()), il.GradientDescent(0.1), steps=3, buffers=policy)
    adapted(batch(2)[0])
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name])
    assert all(m.training == training for m in module.modules())
    assert module[1].running_mean is not None


@pytest.mark.parametrize("policy", ["frozen", "batch_statistics"])
def test_steps_are_those_of_plain_training(policy):
    module, (images, labels) = net(), batch()
    adapted = il.adapt(
        module, loss_of(images, labels), il.GradientDescent(0.1), steps=3, buffers=policy
    )
    plain = copy.deepcopy(module).train(policy == "batch_statistics")
    outer = torch.optim.SGD(plain.parameters(), lr=0.1)
    for _ in range(3):
        outer.zero_grad()
        F.cross_entropy(plain(images), labels).backward()
        outer.step()
    for name, value in plain.named_parameters():
        torch.testing.assert_close(adapted.values[name].detach(), value.detach())
    query = batch(2)[0]
    torch.testing.assert_close(adapted(query), plain(query))


def test_statistics_of_the_task_are_those_of_its_support():
    module, (images, labels) = net(), batch()
    adapted = il.adapt(
        module, loss_of(images, labels), il.GradientDescent(0.1), steps=2, buffers="per_task"
    )
    state = adapted.state_dict()
    inside = F.conv2d(images, adapted.values["0.weight"], adapted.values["0.bias"])
    torch.testing.assert_close(state["1.running_mean"], inside.mean((0, 2, 3)).detach())
    torch.testing.assert_close(state["1.running_var"], inside.var((0, 2, 3)).detach())
    one_by_one = torch.cat([adapted(image[None]) for image in batch(2)[0]])
    torch.testing.assert_close(adapted(batch(2)[0]), one_by_one)


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (None, {"0.weight", "0.bias", "1.weight", "1.bias", "4.weight", "4.bias"}),
        ("4.*", {"4.weight", "4.bias"}),
        (["0.bias", "1.*"], {"0.bias", "1.weight", "1.bias"}),
        (lambda name, parameter: parameter.ndim == 4, {"0.weight"}),
    ],
)
def test_selection(selection, expected):
    module = net()
    adapted = il.adapt(
        module, loss_of(*batch()), il.GradientDescent(0.1), parameters=selection, steps=2
    )
    assert set(adapted.values) == expected
    state = adapted.state_dict()
    for name, value in module.named_parameters():
        assert torch.equal(state[name], value) == (name not in expected)


def test_outer_gradients_reach_what_adapts_and_what_does_not():
    module = net()
    adapted = il.adapt(
        module, loss_of(*batch()), il.GradientDescent(0.1), parameters="4.*", steps=2
    )
    loss_of(*batch(2))(adapted).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())


def test_saved_and_loaded_it_computes_the_same(tmp_path):
    adapted = il.adapt(
        net(), loss_of(*batch()), il.Adam(0.01), steps=2, buffers="per_task", adjoint=il.Detach()
    )
    torch.save(adapted.state_dict(), tmp_path / "adapted.pt")
    loaded = net()
    loaded.load_state_dict(torch.load(tmp_path / "adapted.pt"))
    query = batch(2)[0]
    torch.testing.assert_close(loaded.eval()(query), adapted(query))


def test_it_keeps_adapting_from_where_it_is():
    module, loss, solver = net(), loss_of(*batch()), il.GradientDescent(0.1)
    first = il.adapt(module, loss, solver, steps=2, parameters="4.*")
    values = {name: value.clone() for name, value in first.values.items()}
    further = il.adapt(first, loss, solver, steps=3)
    at_once = il.adapt(module, loss, solver, steps=5, parameters="4.*")
    for name, value in values.items():
        torch.testing.assert_close(further.values[name], at_once.values[name])
        assert torch.equal(first.values[name], value)


def test_values_to_start_from_may_be_handed_in():
    module = net()
    init = {name: torch.zeros_like(p) for name, p in module.named_parameters()}
    adapted = il.adapt(
        module, loss_of(*batch()), il.GradientDescent(0.1), init=init, steps=0, parameters="4.*"
    )
    assert (adapted(batch()[0]) == 0).all()


@pytest.mark.parametrize(
    ("message", "options"),
    [
        ("^parameters: 'head.*' matches none", {"parameters": "head.*"}),
        ("^parameters: none is selected", {"parameters": lambda n, p: False}),
        ("^buffers: 'mine'", {"buffers": "mine"}),
        ("^init: 'x' is no parameter", {"init": {"x": torch.ones(2)}}),
    ],
)
def test_bad_arguments_are_named(message, options):
    with pytest.raises(ValueError, match=message):
        il.adapt(net(), loss_of(*batch()), il.GradientDescent(0.1), **options)
