"""Modules of many kinds adapt as plain training changes them, and stay as they are."""

import copy
import gc
import pickle
import threading
import warnings
import weakref

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize
from torch.utils.checkpoint import checkpoint

import innerloop as il

SOLVER = il.GradientDescent(0.1)
ADJOINTS = [il.Unroll(), il.Unroll(checkpoint=1), il.FirstOrder(), il.Implicit()]


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cells, self.head = nn.LSTM(3, 4, 2, batch_first=True), nn.Linear(4, 1)

    def forward(self, x):
        return self.head(self.cells(x[None])[0][0])


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(3, 4), nn.Linear(4, 1)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x):
        features = self.body(x)[None]
        return self.head(self.attention(features, features, features)[0][0])


class Checkpointed(nn.Module):
    """Computes a layer again in the backward pass, when the next values may be there."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Sequential(nn.Linear(3, 4), nn.Tanh()), nn.Linear(4, 1)

    def forward(self, x):
        return self.head(checkpoint(self.body, x, use_reentrant=False))


class Caching(nn.Module):
    """Keeps what it computed, and a method and a function that refer to it."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 1)
        self.method, self.function = self.run, lambda x: self.layer(x)
        self.lock = threading.Lock()

    def run(self, x):
        return self.function(x)

    def forward(self, x):
        self.kept = self.method(x)
        return self.kept


class Hiding(nn.Module):
    """Has a layer that torch does not know, which trains no more than it does in torch."""

    def __init__(self):
        super().__init__()
        self.head, self.hidden = nn.Linear(4, 1), [nn.Linear(3, 4).double()]

    def forward(self, x):
        return self.head(self.hidden[0](x))


def normed(norm):
    return nn.Sequential(norm(nn.Linear(3, 4)), nn.Tanh(), nn.Linear(4, 1)).eval()


KINDS = {
    "lstm": Recurrent,
    "attention": Attention,
    "checkpoint": Checkpointed,
    "cache": Caching,
    "hidden": Hiding,
    "weight_norm": lambda: normed(parametrizations.weight_norm),
    "spectral_norm": lambda: normed(parametrizations.spectral_norm),
    "orthogonal": lambda: normed(parametrizations.orthogonal),
    "old_weight_norm": lambda: normed(nn.utils.weight_norm),
    "old_spectral_norm": lambda: normed(nn.utils.spectral_norm),
}


def made(kind):
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return KINDS[kind]().double()


def task(seed=1):
    make = torch.Generator().manual_seed(seed)
    x = torch.randn(6, 3, generator=make, dtype=torch.float64)
    return x, x.square().sum(1, keepdim=True)


def loss(model, data=None):
    x, y = data or task()
    return F.mse_loss(model(x), y)


def trained(module, steps):
    outer = torch.optim.SGD(module.parameters(), lr=0.1)
    for _ in range(steps):
        outer.zero_grad()
        loss(module).backward()
        outer.step()
    return {name: value.detach() for name, value in module.named_parameters()}


@pytest.mark.parametrize("kind", KINDS)
def test_it_adapts_as_plain_training_changes_it(kind):
    module, plain = made(kind), made(kind)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    adapted = il.adapt(module, loss, SOLVER, steps=3)
    for name, value in trained(plain, 3).items():
        torch.testing.assert_close(adapted.values[name].detach(), value)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


# Not of orthogonal weights, which jump with the signs of their reflections.
@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"orthogonal"}))
def test_outer_gradients_are_those_of_finite_differences(kind):
    module = made(kind)
    start = {name: value.detach() for name, value in module.named_parameters()}
    direction = {name: torch.randn_like(value) for name, value in start.items()}

    def outer(distance):
        init = {name: value + distance * direction[name] for name, value in start.items()}
        return loss(il.Adapted(module).adapt(loss, SOLVER, init=init, steps=2), task(2))

    distance = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(outer(distance), distance)
    step = 1e-6
    with torch.no_grad():
        expected = (outer(step) - outer(-step)) / (2 * step)
    torch.testing.assert_close(slope, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_threads_adapt_it_side_by_side(kind):
    module = made(kind)
    model, init = il.Adapted(module), dict(module.named_parameters())
    tasks = [task(seed) for seed in range(4)]

    def outer(init, data):
        return loss(model.adapt(lambda m: loss(m, data), SOLVER, init=init, steps=2), data)

    loop, threads = (il.task_gradients(outer, init, tasks, mode=m) for m in ("loop", "threads"))
    for name, gradient in loop.gradients.items():
        torch.testing.assert_close(threads.gradients[name], gradient)


@pytest.mark.parametrize("kind", ["attention", "cache", "weight_norm", "old_weight_norm"])
def test_under_vmap_it_is_the_loop(kind):
    module = made(kind)
    model, init = il.Adapted(module), dict(module.named_parameters())
    tasks = tuple(torch.stack(parts) for parts in zip(task(1), task(2), strict=True))

    def outer(init, data):
        return loss(model.adapt(lambda m: loss(m, data), SOLVER, init=init, steps=2), data)

    loop, vmap = (il.task_gradients(outer, init, tasks, mode=mode) for mode in ("loop", "vmap"))
    for name, gradient in loop.gradients.items():
        torch.testing.assert_close(vmap.gradients[name], gradient)


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"cache"}))  # which no process can hand on
def test_copies_compute_the_same_without_a_graph(kind):
    adapted = il.adapt(made(kind), loss, SOLVER, steps=2)
    copies = [copy.deepcopy(adapted)]
    if not any(map(parametrize.is_parametrized, adapted.module.modules())):  # torch refuses those
        copies.append(pickle.loads(pickle.dumps(adapted)))
    for copied in copies:
        assert copied.module is not adapted.module
        assert not any(value.requires_grad for value in copied.values.values())
        torch.testing.assert_close(loss(copied), loss(adapted))


def test_a_shallow_copy_keeps_the_graph():
    module = made("lstm")
    adapted = il.adapt(module, loss, SOLVER)
    first, second = (
        torch.autograd.grad(loss(model), list(module.parameters()), retain_graph=True)
        for model in (adapted, copy.copy(adapted))
    )
    assert all(map(torch.equal, first, second))


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("kind", ["weight_norm", "orthogonal"])
def test_cached_weights_are_those_of_the_values(kind, inside):
    module, plain = made(kind), made(kind)
    start = loss(module).detach()

    def cached(model):
        with parametrize.cached():
            return loss(model)

    if inside:
        adapted = il.adapt(module, cached, SOLVER, steps=3)
    else:
        with parametrize.cached():
            loss(module)
            adapted = il.adapt(module, loss, SOLVER, steps=3)
            assert torch.equal(loss(module), start)  # of the module, not of its last copy
            assert loss(adapted) < start
    for name, value in trained(plain, 3).items():
        torch.testing.assert_close(adapted.values[name].detach(), value)


def change_data(model):
    for value in model.parameters():
        value.data.mul_(0.5)


def change_in_place(model):
    with torch.no_grad():
        for value in model.parameters():
            value.zero_()


@pytest.mark.parametrize("change", [change_data, change_in_place])
@pytest.mark.parametrize("adjoint", [il.Detach(), *ADJOINTS])
def test_what_a_loss_changes_in_place_is_its_own(adjoint, change):
    module = made("lstm")
    init = {name: value.detach() + 1 for name, value in module.named_parameters()}
    first = il.adapt(module, loss, SOLVER)

    def changing(model):
        change(model)
        return loss(model)

    holders = (dict(module.named_parameters()), init, first.values)
    before = [{name: value.clone() for name, value in each.items()} for each in holders]
    for model, start in ((module, None), (module, init), (first, None)):
        for steps in (0, 2):
            il.adapt(model, changing, SOLVER, init=start, steps=steps, adjoint=adjoint)
    for each, old in zip(holders, before, strict=True):
        assert all(torch.equal(value, old[name]) for name, value in each.items())


def test_a_loss_may_adapt_the_same_model():
    module = nn.Linear(3, 1).double()
    model = il.Adapted(module)

    def outer(value):
        def nested(inside):
            before = loss(inside)
            further = model.adapt(loss, SOLVER, init=dict(inside.named_parameters()), steps=2)
            return before + loss(further) + loss(inside)

        return loss(model.adapt(nested, SOLVER, init={"weight": value}, steps=2))

    start = module.weight.detach().requires_grad_()
    assert torch.autograd.gradcheck(outer, start)


@pytest.mark.parametrize("adjoint", ADJOINTS)
@pytest.mark.parametrize("kind", ["lstm", "cache", "old_weight_norm"])
def test_what_was_computed_goes_with_the_adapted_model(kind, adjoint):
    module = made(kind)
    models = []

    def watched(model):
        models.append(weakref.ref(model))
        return loss(model)

    gc.collect()
    gc.disable()
    try:
        adapted = il.adapt(module, watched, SOLVER, steps=3, adjoint=adjoint)
        value = weakref.ref(next(iter(adapted.values.values())))
        del adapted
        assert value() is None
    finally:
        gc.enable()
    gc.collect()
    assert not any(model() is not None for model in models)
