"""What changes in a module is seen by the `Adapted` model that was made of it before."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import innerloop as il

SOLVER = il.GradientDescent(0.1)
X = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))


def loss(model):
    return model(X).square().mean()


def new_head(module):
    module[3] = nn.Linear(4, 2)


def other_parameter(module):
    module[0].weight = nn.Parameter(torch.ones(4, 3))


def other_data(module):
    module[0].weight.data = torch.ones(4, 3)


def in_place(module):
    with torch.no_grad():
        module[3].bias += 1


def more_layers(module):
    module.append(nn.Tanh())
    module.append(nn.Linear(2, 5))


def tied(module):
    module[3] = nn.Linear(4, 4)
    module.append(nn.Linear(4, 4))
    module[4].weight = module[3].weight


def frozen(module):
    module[0].requires_grad_(False)


def no_dropout(module):
    module[2].p = 0.0


def other_statistics(module):
    module[1].running_mean.add_(1)


CHANGES = [
    *(new_head, other_parameter, other_data, in_place, more_layers, tied, frozen, no_dropout),
    other_statistics,
]


@pytest.mark.parametrize("compile", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("change", CHANGES)
def test_the_next_call_sees_it(change, compile):
    module = net().eval()
    model = il.Adapted(module)
    model.adapt(loss, SOLVER, compile=compile)
    before = dict(model.values)
    change(module)
    fresh = il.Adapted(module)
    assert list(model.values) == list(fresh.values)
    assert all(value is module.get_parameter(name) for name, value in model.values.items())
    assert torch.equal(model(X), module(X))
    found, expected = (each.adapt(loss, SOLVER, compile=compile) for each in (model, fresh))
    assert found.values.keys() == expected.values.keys()
    for name, value in expected.values.items():
        torch.testing.assert_close(found.values[name], value)
    assert before.keys() == dict(net().named_parameters()).keys()


def test_what_was_frozen_stays_where_it_was_adapted_to():
    module = net()
    first = il.adapt(module, loss, SOLVER)
    module[0].requires_grad_(False)
    second = il.adapt(first, loss, SOLVER)
    assert "0.weight" not in second.values
    assert torch.equal(second.state_dict()["0.weight"], first.values["0.weight"])
    assert not torch.equal(second.values["3.bias"], first.values["3.bias"])


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nn.Linear(4, 5), r"^values: '3.weight' has the shape \(2, 4\), should have \(5, 4\)"),
        (nn.Linear(4, 2).double(), "^values: '3.weight' has the dtype torch.float32, should have"),
        (nn.Linear(4, 2, bias=False), "^values: '3.bias' is not a parameter of the module"),
    ],
)
@pytest.mark.parametrize(
    "use", [lambda a: a(X), lambda a: a.adapt(loss, SOLVER), lambda a: a.state_dict()]
)
def test_adapted_values_that_no_longer_fit_are_refused(layer, message, use):
    module = net()
    adapted = il.adapt(module, loss, SOLVER)
    module[3] = layer
    with pytest.raises(ValueError, match=message):
        use(adapted)


def test_values_tied_since_are_refused():
    module = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    adapted = il.adapt(module, loss, SOLVER)
    module[1].weight = module[0].weight
    with pytest.raises(ValueError, match=r"^values: '1.weight' is '0.weight' by another name"):
        adapted(X)


def test_a_selection_is_made_anew():
    module = net()
    model = il.Adapted(module, (name for name in ["3.*"]))
    module[3] = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    adapted = model.adapt(lambda m: F.mse_loss(m(X), torch.ones(6, 2)), SOLVER)
    assert set(adapted.values) == {"3.0.weight", "3.0.bias", "3.1.weight", "3.1.bias"}
    module[3] = nn.Identity()
    with pytest.raises(ValueError, match=r"^parameters: '3.\*' matches none"):
        model.adapt(loss, SOLVER)
