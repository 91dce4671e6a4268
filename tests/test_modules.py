"""Adapting modules: which parameters, which statistics, and what stays as it is."""

import copy
import pickle
import threading

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
        ("^init: 'x' is not a parameter", {"init": {"x": torch.ones(2)}}),
    ],
)
def test_bad_arguments_are_named(message, options):
    with pytest.raises(ValueError, match=message):
        il.adapt(net(), loss_of(*batch()), il.GradientDescent(0.1), **options)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(7, 4), nn.Linear(4, 7, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, x):
        return self.head(self.embed(x))

    def loss(self, x):
        return F.cross_entropy(self(x), x.roll(1))


def test_tied_weights_adapt_and_are_saved_under_every_name():
    torch.manual_seed(0)
    module, x = Tied().double(), torch.arange(7)
    adapted = il.adapt(
        module, lambda m: m.loss(x), il.GradientDescent(0.5), steps=3, parameters="head.*"
    )
    plain = copy.deepcopy(module)
    outer = torch.optim.SGD(plain.parameters(), lr=0.5)
    for _ in range(3):
        outer.zero_grad()
        plain.loss(x).backward()
        outer.step()
    state = adapted.state_dict()
    for name in ("embed.weight", "head.weight"):
        torch.testing.assert_close(state[name], plain.embed.weight.detach())
    assert set(adapted.values) == {"embed.weight"}


def test_aliases_start_from_one_tensor_only():
    module, x = Tied().double(), torch.arange(7)
    start = torch.ones(7, 4, dtype=torch.float64)
    for init in ({"head.weight": start}, {"head.weight": start, "embed.weight": start}):
        adapted = il.adapt(module, lambda m: m.loss(x), il.GradientDescent(0.1), init=init, steps=0)
        assert torch.equal(adapted.values["embed.weight"], start)
    init = {"head.weight": start, "embed.weight": 2 * start}
    with pytest.raises(ValueError, match="by another name"):
        il.adapt(module, lambda m: m.loss(x), il.GradientDescent(0.1), init=init)


def test_a_submodule_with_two_names_is_one_and_stays():
    torch.manual_seed(0)
    layer = nn.Linear(3, 3).double()
    module = nn.Sequential(layer, nn.Tanh(), layer)
    before, weight = layer.weight.detach().clone(), layer.weight
    x = torch.randn(4, 3, dtype=torch.float64)
    adapted = il.adapt(module, lambda m: m(x).square().mean(), il.GradientDescent(0.1))
    module(x).square().mean().backward()
    assert layer.weight is weight
    assert torch.equal(weight, before)
    expected = before - 0.1 * layer.weight.grad
    torch.testing.assert_close(adapted.values["0.weight"].detach(), expected)
    torch.testing.assert_close(adapted.state_dict()["2.weight"], expected)


def test_a_proximal_term_of_the_models_parameters_has_a_gradient():
    module, loss = net(), loss_of(*batch())
    start = {name: p.detach() + 1 for name, p in module.named_parameters()}

    def proximal(model):
        assert type(model) is type(module)
        assert len(model) == 5
        terms = [(p - start[name]).square().sum() for name, p in model.named_parameters()]
        return loss(model) + sum(terms)

    adapted = il.adapt(module, proximal, il.GradientDescent(0.1))
    gradients = torch.autograd.grad(proximal(module.eval()), list(module.parameters()))
    for (name, p), gradient in zip(module.named_parameters(), gradients, strict=True):
        torch.testing.assert_close(adapted.values[name].detach(), (p - 0.1 * gradient).detach())


def test_what_a_loss_does_to_the_model_stays_there():
    module = net().train()

    def loss(model):
        model.eval()
        model[4].extra = 1
        model[4].register_forward_hook(lambda *_: None)
        model.train()
        return loss_of(*batch())(model)

    before = copy.deepcopy(module.state_dict())
    il.adapt(module, loss, il.GradientDescent(0.1), steps=2)
    assert not module[4]._forward_hooks
    assert not hasattr(module[4], "extra")
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_attributes_that_nothing_copies_are_no_obstacle():
    module = nn.Sequential(nn.utils.weight_norm(nn.Linear(3, 4)), nn.BatchNorm1d(4)).double()
    module.lock = threading.Lock()
    module.images = iter(range(3))
    x = torch.randn(5, 3, dtype=torch.float64)
    adapted = il.adapt(module, lambda m: m(x).square().mean(), il.GradientDescent(0.1))
    assert not torch.equal(adapted.values["0.weight_v"], module[0].weight_v)


def test_copies_hold_the_values_without_their_graph():
    adapted = il.adapt(net(), loss_of(*batch()), il.GradientDescent(0.1), buffers="per_task")
    query = batch(2)[0]
    for copied in (copy.deepcopy(adapted), pickle.loads(pickle.dumps(adapted))):
        assert not any(value.requires_grad for value in copied.values.values())
        torch.testing.assert_close(copied(query), adapted(query))


@pytest.mark.parametrize(
    ("init", "message"),
    [
        (torch.zeros(3, 2).double(), r"'4.bias' has the shape \(3, 2\), should have \(2,\)"),
        (torch.zeros(2), "'4.bias' has the dtype torch.float32, should have torch.float64"),
    ],
)
def test_values_to_start_from_must_fit(init, message):
    with pytest.raises(ValueError, match=message):
        il.adapt(net(), loss_of(*batch()), il.GradientDescent(0.1), init={"4.bias": init})


def test_lazy_layers_are_called_first():
    with pytest.raises(ValueError, match="call the module once first"):
        il.Adapted(nn.Sequential(nn.LazyLinear(3)))
