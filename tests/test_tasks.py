"""Gradients over batches of tasks: one by one, vmapped and compiled agree through every layer."""

import threading

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import innerloop as il
from innerloop import trees

TASKS = 3


class Recurrent(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer(4, 3, batch_first=True)

    def forward(self, x):
        return self.layer(x)[0][:, -1]


def sequential(*layers):
    return nn.Sequential(*layers).double()


def image_net(norm):
    return sequential(nn.Conv2d(2, 4, 3), norm, nn.ReLU(), nn.Flatten(), nn.Linear(4 * 9, 3))


def vector_net(*middle):
    return sequential(nn.Linear(4, 6), *middle, nn.Tanh(), nn.Linear(6, 3))


NETS = {
    "linear": lambda: vector_net(),
    "conv": lambda: image_net(nn.Identity()),
    "batchnorm-frozen": lambda: image_net(nn.BatchNorm2d(4)),
    "batchnorm-per_task": lambda: image_net(nn.BatchNorm2d(4)),
    "batchnorm-batch_statistics": lambda: image_net(nn.BatchNorm2d(4)),
    "layernorm": lambda: vector_net(nn.LayerNorm(6)),
    "groupnorm": lambda: image_net(nn.GroupNorm(2, 4)),
    "rmsnorm": lambda: vector_net(nn.RMSNorm(6)),
    "dropout": lambda: vector_net(nn.Dropout(0.4)),
    "embedding": lambda: sequential(nn.Embedding(7, 6), nn.Flatten(), nn.Linear(24, 3)),
    "lstm": lambda: Recurrent(nn.LSTM).double(),
    "gru": lambda: Recurrent(nn.GRU).double(),
}
IMAGES = {"conv", "groupnorm"} | {name for name in NETS if name.startswith("batchnorm")}


def make(name):
    """A net with affine parameters away from their defaults, and stacked tasks for it."""
    torch.manual_seed(3)
    net = NETS[name]()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    shape = {"embedding": (4,), "lstm": (5, 4), "gru": (5, 4)}.get(name, (4,))
    if name in IMAGES:
        shape = (2, 5, 5)
    inputs = torch.randn(2, TASKS, 6, *shape, dtype=torch.float64)
    if name == "embedding":
        inputs = torch.randint(0, 7, inputs.shape)
    labels = torch.randint(0, 3, (2, TASKS, 6))
    return net, (inputs[0], labels[0], inputs[1], labels[1])


def task_loss_of(name, net, steps=2):
    policy = name.split("-")[1] if "-" in name else "frozen"
    base = il.Adapted(net, buffers=policy)

    def task_loss(init, task):
        support, labels, query, answers = task
        adapted = base.adapt(
            lambda model: F.cross_entropy(model(support), labels),
            il.GradientDescent(0.3),
            init=init,
            steps=steps,
        )
        return F.cross_entropy(adapted(query), answers)

    return task_loss


def assert_equal(actual, expected, tolerance=1e-9):
    for a, b in zip(trees.leaves(actual), trees.leaves(expected), strict=True):
        scale = b.abs().max().clamp(min=1.0)
        assert (a - b).abs().max() <= tolerance * scale


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("chunk_size", [None, 2])
def test_vmap_is_the_loop(name, chunk_size):
    net, tasks = make(name)
    loss = task_loss_of(name, net)
    options = {"seed": 5, "randomness": "same"}
    loop = il.task_gradients(loss, dict(net.named_parameters()), tasks, **options)
    at_once = il.task_gradients(
        loss, dict(net.named_parameters()), tasks, mode="vmap", chunk_size=chunk_size, **options
    )
    assert_equal(at_once, loop)
    assert any(g.abs().max() > 1e-3 for g in trees.leaves(loop.gradients))


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", [name for name in NETS if name != "dropout"])
def test_threads_are_the_loop(name, two_threads):
    net, _ = make(name)
    tasks = trees.tree_map(lambda t: t.repeat(8, *[1] * (t.ndim - 1)), make(name)[1])
    state = {key: value.clone() for key, value in net.state_dict().items()}
    loss, init = task_loss_of(name, net), dict(net.named_parameters())
    loop = il.task_gradients(loss, init, tasks)
    for _ in range(3):
        assert_equal(il.task_gradients(loss, init, tasks, mode="threads"), loop)
    assert torch.get_num_threads() == 2
    assert_equal(net.state_dict(), state, tolerance=0)


def test_threads_keep_the_order_and_work_side_by_side(two_threads):
    together, ids = threading.Barrier(2, timeout=60), set()

    def loss(p, task):
        together.wait()
        ids.add(threading.get_ident())
        assert torch.get_num_threads() == 1
        return p * task

    tasks = torch.arange(6.0)
    assert torch.equal(
        il.task_gradients(loss, torch.tensor(1.0), tasks, mode="threads").losses, tasks
    )
    assert len(ids) == 2


def test_threads_pass_on_what_goes_wrong(two_threads):
    def loss(p, task):
        if task == 1:
            raise RuntimeError("the second task")
        return p * task

    with pytest.raises(RuntimeError, match="the second task"):
        il.task_gradients(loss, torch.tensor(1.0), torch.arange(4.0), mode="threads")
    assert torch.get_num_threads() == 2


def test_threads_work_under_the_autocast_of_the_caller(two_threads):
    def loss(p, task):
        product = p @ task
        assert product.dtype == torch.bfloat16
        return product.float().sum()

    with torch.autocast("cpu", torch.bfloat16):
        il.task_gradients(loss, torch.eye(2), torch.ones(3, 2, 2), mode="threads")


@pytest.mark.slow
@pytest.mark.parametrize("name", NETS)
def test_compiled_is_the_loop(name):
    torch._dynamo.reset()
    net, tasks = make(name)
    loss = task_loss_of(name, net, steps=1)
    options = {"seed": 5}
    loop = il.task_gradients(loss, dict(net.named_parameters()), tasks, **options)
    compiled = il.task_gradients(
        loss, dict(net.named_parameters()), tasks, mode="compile", **options
    )
    assert_equal(compiled, loop)


def test_the_loop_is_the_gradient_of_the_mean():
    net, tasks = make("layernorm")
    loss = task_loss_of("layernorm", net)
    init = {k: v.detach().requires_grad_() for k, v in net.named_parameters()}
    losses = [loss(init, trees.tree_map(lambda t, i=i: t[i], tasks)) for i in range(TASKS)]
    expected = torch.autograd.grad(torch.stack(losses).mean(), list(init.values()))
    result = il.task_gradients(loss, init, tasks)
    assert_equal(list(result.gradients.values()), expected)
    assert_equal(result.losses, torch.stack(losses).detach())


def test_a_list_of_tasks_of_different_sizes():
    def loss(p, task):
        return ((p - task) ** 2).mean()

    tasks = [torch.zeros(2), torch.ones(3)]
    result = il.task_gradients(loss, torch.tensor(0.5), tasks)
    assert result.gradients == 0
    with pytest.raises(ValueError, match=r"^tasks: mode 'vmap' needs"):
        il.task_gradients(loss, torch.tensor(0.5), tasks, mode="vmap")


@pytest.mark.parametrize("mode", ["loop", "vmap"])
def test_random_numbers_are_those_of_the_seed(mode):
    def loss(p, task):
        return (p * torch.rand(3)).sum() + 0 * task

    def run(seed, **options):
        torch.rand(1)
        return il.task_gradients(
            loss, torch.ones(3), torch.zeros(4), mode=mode, seed=seed, **options
        ).losses

    before = torch.get_rng_state()
    first = run(7)
    torch.set_rng_state(before)
    torch.rand(1)
    assert torch.equal(torch.get_rng_state(), torch.get_rng_state())
    assert torch.equal(first, run(7))
    assert not torch.equal(first, run(8))
    assert first.unique().numel() == 4
    assert run(7, randomness="same").unique().numel() == 1


def test_the_seed_leaves_the_global_generator_alone():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    il.task_gradients(lambda p, t: (p * torch.rand(())).sum(), torch.ones(2), torch.ones(2), seed=1)
    assert torch.equal(torch.rand(1), expected)


def test_training_finds_the_best_start():
    centers = torch.tensor([1.0, 3.0])
    start = torch.zeros((), requires_grad=True)

    def loss(start, center):
        reached = il.solve(
            lambda p: (p - center) ** 2, start, il.GradientDescent(0.1), steps=2
        ).value
        return (reached - center) ** 2

    stepped = []
    history = il.meta_train(
        loss,
        start,
        [centers] * 40,
        torch.optim.SGD([start], lr=0.5),
        after_step=lambda: stepped.append(1),
    )
    torch.testing.assert_close(start.detach(), torch.tensor(2.0))
    assert history[-1] < history[0]
    assert len(stepped) == 40


@pytest.mark.parametrize("mode", ["loop", "threads", "vmap"])
def test_what_is_not_finite_is_reported_and_trains_nothing(mode):
    x = torch.ones(3, requires_grad=True)
    optimizer = torch.optim.SGD([x], lr=0.1)
    tasks = torch.tensor([1.0, 0.0])
    with pytest.raises(FloatingPointError, match=r"outer loss of 1 of 2 tasks .* task 1, .* inf"):
        il.meta_train(lambda x, t: x.sum() / t, x, [tasks], optimizer, mode=mode)
    with pytest.raises(FloatingPointError, match=r"gradient .* such as \['x'\]"):
        il.meta_train(
            lambda p, t: (p["x"] * t).square().sum().sqrt(), {"x": x}, [tasks], optimizer, mode=mode
        )
    assert torch.equal(x.detach(), torch.ones(3))


def test_the_last_gradient_makes_room_for_the_next():
    start, held = torch.zeros((), requires_grad=True), []

    def loss(parameter, center):
        held.append(start.grad)
        return (parameter - center) ** 2

    il.meta_train(loss, start, [torch.ones(2)] * 2, torch.optim.SGD([start], lr=0.1))
    assert held == [None] * 4


@pytest.mark.parametrize(
    ("message", "options"),
    [
        ("^mode: 'map'", {"mode": "map"}),
        ("^seed: 3", {"mode": "threads", "seed": 3}),
        ("^randomness: 'same'", {"mode": "threads", "randomness": "same"}),
        ("^chunk_size: 0", {"chunk_size": 0}),
        ("^randomness: 'none'", {"randomness": "none"}),
        ("^tasks: none", {"tasks": []}),
        ("^tasks: first axes", {"tasks": (torch.ones(2), torch.ones(3))}),
    ],
)
def test_bad_arguments_are_named(message, options):
    options = {"tasks": torch.ones(2), **options}
    with pytest.raises(ValueError, match=message):
        il.task_gradients(lambda p, t: p.sum(), torch.ones(2), **options)


def test_the_optimizer_may_leave_out_frozen_parameters_alone():
    net = nn.Linear(2, 1)
    net.weight.requires_grad_(False)
    loss = lambda meta, x: meta["bias"].sum() * x  # noqa: E731
    tensors, tasks = dict(net.named_parameters()), [torch.ones(2)]
    il.meta_train(loss, tensors, tasks, torch.optim.SGD([net.bias], lr=0.1))
    tensors["scale"] = torch.ones(())
    with pytest.raises(ValueError, match=r"^meta_parameters: .* does not hold \['scale'\]"):
        il.meta_train(loss, tensors, tasks, torch.optim.SGD([net.bias], lr=0.1))
