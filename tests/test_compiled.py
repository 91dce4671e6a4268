"""Compiled gradients of inner losses: the gradients of eager code, compiled once for all tasks."""

from functools import partial

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters
from torch.nn import functional as F

import innerloop as il
from innerloop.compile.rewriting import _batch_norm, _max_pool2d, rewrite_for_cpu

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    counters.clear()


def net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4, track_running_stats=False),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 3, 2),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(12, 3),
    ).double()


def task(seed):
    make = torch.Generator().manual_seed(seed)
    images = torch.randn(2, 6, 1, 7, 7, generator=make, dtype=torch.float64)
    return images[0], torch.arange(6) % 3, images[1], torch.arange(6) % 3


def outer_loss(model, batch, init, compile, **options):
    support, labels, query, answers = batch
    adapted = model.adapt(
        lambda model: F.cross_entropy(model(support), labels),
        il.GradientDescent(0.3),
        init=init,
        compile=compile,
        **options,
    )
    return F.cross_entropy(adapted(query), answers)


@pytest.mark.parametrize("adjoint", [il.Unroll(), il.FirstOrder()])
def test_gradients_are_those_of_eager_code_and_tasks_share_what_was_compiled(adjoint):
    module = net()
    model = il.Adapted(module, ["4.*", "7.*"])  # so that others receive gradients as constants
    init = dict(module.named_parameters())
    for seed in range(3):
        options = {"steps": 3, "adjoint": adjoint}
        results = []
        for compile in (False, True):
            loss = outer_loss(model, task(seed), init, compile, **options)
            gradients = torch.autograd.grad(
                loss, list(init.values()), allow_unused=True, materialize_grads=True
            )
            results.append((loss.detach(), *gradients))
        for eager, compiled in zip(*results, strict=True):
            assert (compiled - eager).abs().max() <= 1e-12
        assert results[0][1].abs().max() > 1e-4
    assert counters["stats"]["unique_graphs"] == 2  # the gradient, and the adapted model


def test_under_vmap_and_without_gradients_it_computes_the_same():
    module = net()
    model = il.Adapted(module)
    init = dict(module.named_parameters())
    batch = task(0)
    with torch.no_grad():
        eager, compiled = (outer_loss(model, batch, init, c, steps=2) for c in (False, True))
    assert compiled == pytest.approx(eager.item(), rel=1e-12)

    def loss(init, batch):
        return outer_loss(model, batch, init, True, steps=2)

    stacked = tuple(part[None] for part in batch)
    losses = il.task_gradients(loss, init, stacked, mode="vmap").losses
    assert losses.item() == pytest.approx(eager.item(), rel=1e-12)


def test_threads_share_what_was_compiled():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    module = net()
    model = il.Adapted(module)
    init = dict(module.named_parameters())

    def loss(init, batch, compile=True):
        return outer_loss(model, batch, init, compile, steps=2)

    tasks = [task(seed) for seed in range(5)]
    eager = il.task_gradients(partial(loss, compile=False), init, tasks).gradients
    for _ in range(3):  # each with threads of its own
        found = il.task_gradients(loss, init, tasks, mode="threads").gradients
        for name, gradient in eager.items():
            assert (found[name] - gradient).abs().max() <= 1e-12
    torch.set_num_threads(before)
    assert counters["stats"]["unique_graphs"] == 2  # one thread compiles, the other one waits


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize(("track", "training"), [(True, True), (True, False), (False, True)])
def test_batch_norm_is_that_of_torch(affine, track, training):
    torch.manual_seed(0)
    x = torch.randn(4, 3, 5, 2, dtype=torch.float64, requires_grad=True)
    statistics = (torch.randn(3).double(), torch.rand(3).double()) if track else (None, None)
    scales = (torch.randn(3).double(), torch.randn(3).double()) if affine else (None, None)
    weights = torch.randn(x.shape, dtype=torch.float64)
    found = []
    for batch_norm in (_batch_norm, F.batch_norm):
        copies = [None if s is None else s.clone() for s in statistics]
        out = batch_norm(x, *copies, *scales, training=training, eps=1e-3)
        found.append([out, *torch.autograd.grad((out * weights).sum(), x), *copies])
    for actual, expected in zip(*found, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 2},
        {"kernel_size": (3, 2), "stride": (3, 2)},
        {"kernel_size": 3, "stride": 2, "padding": 1},
        {"kernel_size": 2, "ceil_mode": True},
        {"kernel_size": 2, "dilation": 2},
    ],
)
def test_pooling_is_that_of_torch(options):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 7, 9, dtype=torch.float64, requires_grad=True)
    pooled, expected = _max_pool2d(x, **options), F.max_pool2d(x, **options)
    assert torch.equal(pooled, expected)
    weights = torch.randn_like(expected)
    gradients = (torch.autograd.grad((out * weights).sum(), x)[0] for out in (pooled, expected))
    assert torch.equal(*gradients)


class _ReadsWhatReluChanged(nn.Module):
    def __init__(self, inplace):
        super().__init__()
        self.conv, self.inplace = nn.Conv2d(1, 2, 3), inplace

    def forward(self, images):
        features = self.conv(images)
        pooled = F.max_pool2d(F.relu(features, inplace=self.inplace), 2)
        return pooled.flatten(1).sum(1) + features.square().flatten(1).sum(1)


@pytest.mark.parametrize("inplace", [False, True])
def test_pooling_what_a_relu_changed_in_place(inplace):
    torch.manual_seed(0)
    model = il.Adapted(_ReadsWhatReluChanged(inplace).double())
    images = torch.randn(2, 1, 7, 7, dtype=torch.float64)
    results = []
    for compile in (False, True):
        init = {k: v.detach().requires_grad_() for k, v in model.module.named_parameters()}
        adapted = model.adapt(
            lambda model: model(images).square().mean(),
            il.GradientDescent(1e-2),
            init=init,
            compile=compile,
        )
        loss = adapted(images).mean()
        results.append((loss, *torch.autograd.grad(loss, list(init.values()))))
    for eager, compiled in zip(*results, strict=True):
        torch.testing.assert_close(compiled, eager, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "pooled",
    [
        lambda x: F.max_pool2d(F.relu(x), 2),
        lambda x: F.max_pool2d(torch.relu(x), kernel_size=3, stride=2, padding=1),
        lambda x: F.max_pool2d(input=F.relu(x), kernel_size=2),
        lambda x: F.max_pool2d(F.relu(input=x), 2),
        lambda x: F.max_pool2d(F.relu(x), 2, return_indices=True)[0],
    ],
)
def test_rewriting_takes_arguments_in_any_form(pooled):
    def backend(graph, inputs):
        rewrite_for_cpu(graph)
        return graph

    x = torch.randn(2, 3, 6, 7, dtype=torch.float64)
    assert torch.equal(torch.compile(pooled, backend=backend)(x), pooled(x))


def test_what_cannot_be_compiled_says_so():
    def loss(model):
        value = model(task(0)[0]).square().mean()
        return value if value.item() > 0 else -value

    with pytest.raises(torch._dynamo.exc.Unsupported):
        il.Adapted(net()).adapt(loss, il.GradientDescent(0.1), compile=True)
