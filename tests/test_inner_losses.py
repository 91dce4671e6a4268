"""Losses that reach no parameter, or not all of them; errors that say what to do."""

import copy
import pickle
from multiprocessing import get_context

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import innerloop as il

X = torch.linspace(-1, 1, 24, dtype=torch.float64).reshape(8, 3)
Y = X.sum(-1, keepdim=True).sin()


def linear():
    torch.manual_seed(0)
    return nn.Linear(3, 1).double()


def error(model):
    return F.mse_loss(model(X), Y)


CUT_OFF = {
    "another model": lambda model: error(linear()),
    "detached": lambda model: error(model).detach(),
    "item": lambda model: torch.tensor(error(model).item()),
    "constant": lambda model: torch.ones((), dtype=torch.float64, requires_grad=True) * 2,
}
SOLVERS = [
    il.GradientDescent(0.1),
    il.GradientDescent(il.Armijo()),
    il.Adam(),
    il.Newton(),
    il.LearnedUpdate(lambda gradient, state: (gradient, state)),
]


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda solver: type(solver).__name__)
@pytest.mark.parametrize("loss", CUT_OFF.values(), ids=CUT_OFF)
@pytest.mark.parametrize("adjoint", [il.Unroll(), il.Detach()], ids=["unroll", "detach"])
def test_a_loss_without_the_model_is_an_error(loss, solver, adjoint):
    with pytest.raises(ValueError, match="loss: does not depend on the adapting parameters"):
        il.adapt(linear(), loss, solver, adjoint=adjoint)


@pytest.mark.parametrize("adjoint", [il.FirstOrder(), il.Reptile(), il.Implicit(), il.Truncate(1)])
def test_so_under_every_adjoint(adjoint):
    with pytest.raises(ValueError, match="loss: does not depend"):
        il.adapt(linear(), CUT_OFF["detached"], il.GradientDescent(0.1), steps=2, adjoint=adjoint)


@pytest.mark.parametrize("transform", ["grad", "vmap"])
def test_so_under_transforms(transform):
    def reached(start):
        return il.solve(lambda p: (start * 2).sum(), start, il.GradientDescent(0.1)).value.sum()

    transformed = getattr(torch.func, transform)(reached)
    with pytest.raises(ValueError, match="loss: does not depend"):
        transformed(torch.ones(3, 2) if transform == "vmap" else torch.ones(3))


@pytest.mark.parametrize(
    "solver",
    [il.GaussNewton(), il.LevenbergMarquardt(), il.SteepestDescent(), il.GradientDescent(0.1)],
    ids=lambda solver: type(solver).__name__,
)
def test_so_where_a_residual_ignores_them(solver):
    with pytest.raises(ValueError, match="loss: does not depend"):
        il.solve(il.LeastSquares(lambda p: X @ X.mT), torch.ones(3).double(), solver)


def test_a_gradient_of_zero_is_no_error():
    dead = lambda p: F.relu(-p.square() - 1).sum()  # noqa: E731
    assert torch.equal(il.solve(dead, torch.ones(3), il.GradientDescent(0.1)).value, torch.ones(3))


def test_no_steps_need_no_loss():
    il.adapt(linear(), CUT_OFF["constant"], il.GradientDescent(0.1), steps=0)


@pytest.mark.parametrize(
    "solver", [il.GradientDescent(0.1), il.Adam(0.1), il.Newton()], ids=["gd", "adam", "newton"]
)
def test_inference_mode_is_as_no_grad(solver):
    with torch.no_grad():
        expected = error(il.adapt(linear(), error, solver, steps=3))
    with torch.inference_mode():
        inputs, targets = X.clone(), Y.clone()  # which autograd may not save
        adapted = il.adapt(
            linear(), lambda model: F.mse_loss(model(inputs), targets), solver, steps=3
        )
        torch.testing.assert_close(error(adapted), expected)


def test_meta_gradients_under_inference_mode():
    def outer(start, task):
        fit = il.solve(lambda p: (p - task).square().sum(), start, il.GradientDescent(0.1))
        return fit.value.square().sum()

    expected = il.task_gradients(outer, torch.ones(3), torch.ones(2, 3) * 3)
    with torch.inference_mode():
        found = il.task_gradients(outer, torch.ones(3), torch.ones(2, 3) * 3)
    torch.testing.assert_close(found.gradients, expected.gradients)


@pytest.mark.parametrize("mode", ["loop", "threads", "vmap"])
@pytest.mark.parametrize("adjoint", ["constant", "detach"])
def test_an_outer_loss_without_meta_parameters_is_an_error(mode, adjoint):
    def outer(start, task):
        if adjoint == "constant":
            return task.sum()
        inner = lambda p: (p - task).square().sum()  # noqa: E731
        solver = il.GradientDescent(0.1)
        return il.solve(inner, start, solver, adjoint=il.Detach()).value.sum()

    with pytest.raises(ValueError, match="task_loss: its loss depends on no meta-parameter"):
        il.task_gradients(outer, torch.ones(3), torch.ones(2, 3), mode=mode)


def test_an_outer_loss_may_ignore_some():
    found = il.task_gradients(
        lambda meta, task: (meta["a"] * task).sum(),
        {"a": torch.ones(3), "b": torch.ones(2)},
        torch.ones(2, 3),
    )
    assert torch.equal(found.gradients["b"], torch.zeros(2))


OPTIMIZERS = {
    "SGD": (
        lambda p, decay=0.5: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=decay),
        lambda decay=0.5: il.GradientDescent(0.1, momentum=0.9, weight_decay=decay),
    ),
    "Nesterov": (
        lambda p, decay=0.5: torch.optim.SGD(
            p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=decay
        ),
        lambda decay=0.5: il.GradientDescent(0.1, momentum=0.9, nesterov=True, weight_decay=decay),
    ),
    "Adam": (
        lambda p, decay=0.5: torch.optim.Adam(p, lr=0.1, weight_decay=decay),
        lambda decay=0.5: il.Adam(0.1, weight_decay=decay),
    ),
    "AdamW": (
        lambda p, decay=0.5: torch.optim.AdamW(p, lr=0.1, weight_decay=decay),
        lambda decay=0.5: il.AdamW(0.1, weight_decay=decay),
    ),
    "RMSprop": (
        lambda p, decay=0.5: torch.optim.RMSprop(p, lr=0.1, momentum=0.5, weight_decay=decay),
        lambda decay=0.5: il.RMSprop(0.1, momentum=0.5, weight_decay=decay),
    ),
    "Adagrad": (
        lambda p, decay=0.5: torch.optim.Adagrad(p, lr=0.1, weight_decay=decay),
        lambda decay=0.5: il.Adagrad(0.1, weight_decay=decay),
    ),
}


class InTurn:
    """A loss of two tensors, the second of which is used in some steps only."""

    def __init__(self, steps):
        self.steps, self.step = steps, 0

    def __call__(self, params):
        self.step += 1
        loss = (params["a"] - 1).square().sum()
        return loss + params["b"].sin().sum() if self.step - 1 in self.steps else loss


@pytest.mark.parametrize("used", [(), (0,), (2,), (1, 2, 4), range(6)], ids=str)
@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("adjoint", [il.Unroll(), il.FirstOrder()], ids=["unroll", "first"])
def test_what_a_loss_does_not_use_rests_as_in_torch_optim(name, used, adjoint):
    torch_optimizer, solver = OPTIMIZERS[name]
    start = {key: torch.tensor([0.3, -2.0], dtype=torch.float64) for key in "ab"}
    theirs = {key: value.clone().requires_grad_() for key, value in start.items()}
    optimizer, loss = torch_optimizer(list(theirs.values())), InTurn(used)
    for _ in range(6):
        optimizer.zero_grad()
        loss(theirs).backward()
        optimizer.step()
    ours = il.solve(InTurn(used), start, solver(), steps=6, adjoint=adjoint).value
    for key in "ab":
        torch.testing.assert_close(ours[key], theirs[key].detach(), rtol=1e-12, atol=1e-12)


def test_what_a_loss_does_not_use_rests_under_transforms():
    def reached(start):
        solver = il.GradientDescent(0.1, weight_decay=0.5)
        params = {"a": start, "b": 2 * start}
        return il.solve(lambda p: p["a"].square().sum(), params, solver).value["b"].sum()

    ones = torch.ones(4, 3)
    assert torch.equal(torch.func.vmap(reached)(ones), 2 * ones.sum(-1))
    assert torch.equal(torch.func.grad(reached)(ones), 2 * ones)


DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_are_those_of_torch_optim_at_any_scale(name, dtype):
    torch_optimizer, solver = OPTIMIZERS[name]
    compared = 0
    for exponent in range(-30, 5):
        gradient = torch.full((2,), 10.0**exponent, dtype=dtype)
        theirs = torch.zeros(2, dtype=dtype, requires_grad=True)
        optimizer = torch_optimizer([theirs], decay=0.0)
        for _ in range(3):
            theirs.grad = gradient.clone()
            optimizer.step()
        ours = il.solve(
            lambda p, gradient=gradient: (p * gradient).sum(),
            torch.zeros(2, dtype=dtype),
            solver(decay=0.0),
            steps=3,
            adjoint=il.Detach(),
            throw=False,
        ).value
        if theirs.isfinite().all():
            compared += 1
            rounding = 8 * torch.finfo(dtype).eps
            torch.testing.assert_close(ours, theirs.detach(), rtol=rounding, atol=0)
    assert compared >= 7


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_derivatives_are_finite_at_zero(name):
    def reached(scale, start):
        solver = OPTIMIZERS[name][1]()
        return il.solve(lambda p: scale * p.square().sum(), start, solver, steps=3).value.sum()

    scale = torch.zeros((), dtype=torch.float64, requires_grad=True)
    start = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    first = torch.autograd.grad(reached(scale, start), (scale, start), create_graph=True)
    second = torch.autograd.grad(sum(part.sum() for part in first), (scale, start))
    assert all(part.isfinite().all() for part in (*first, *second))


def test_attention_is_differentiated_twice():
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(4, 2, batch_first=True).double()
    tokens = torch.randn(2, 5, 4).double()
    loss = lambda model: model(tokens, tokens, tokens, need_weights=False)[0].square().mean()  # noqa: E731
    adapted = il.adapt(attention, loss, il.GradientDescent(0.1), steps=2)
    gradients = torch.autograd.grad(loss(adapted), list(attention.parameters()))
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert torch.backends.cuda.flash_sdp_enabled()


def failed_solve(_=None):
    weight = torch.ones(2, requires_grad=True)
    il.solve(lambda p: (p["w"] * weight * float("nan")).sum(), {"w": torch.zeros(2)}, il.Adam())


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))])
def test_errors_copy(copied):
    with pytest.raises(il.SolveError) as raised:
        failed_solve()
    again = copied(raised.value)
    assert str(again) == str(raised.value)
    assert again.solution.status is il.Status.NOT_FINITE
    assert not again.solution.value["w"].requires_grad


def test_errors_cross_processes():
    with get_context("spawn").Pool(1) as pool, pytest.raises(il.SolveError, match="NOT_FINITE"):
        pool.map_async(failed_solve, [None]).get(60)


WRONG = {
    "solver class": (lambda: adapted(il.GradientDescent), "solver: the class GradientDescent"),
    "torch.optim": (
        lambda: adapted(torch.optim.SGD(linear().parameters(), lr=0.1)),
        "solver: SGD, should be a Solver",
    ),
    "solver and loss": (lambda: il.adapt(linear(), il.Adam(), error), "solver: function"),
    "solver and problem": (
        lambda: il.solve(il.Adam(), torch.ones(3), il.Objective(torch.sum)),
        "solver: Objective",
    ),
    "no problem": (lambda: il.solve(3, torch.ones(3), il.Adam()), "problem: int"),
    "problem class": (
        lambda: il.solve(il.LeastSquares, torch.ones(3), il.Adam()),
        "problem: the class LeastSquares",
    ),
    "adjoint class": (lambda: adapted(il.Adam(), adjoint=il.Unroll), "adjoint: the class Unroll"),
    "no adjoint": (lambda: adapted(il.Adam(), adjoint="unroll"), "adjoint: str"),
    "float steps": (lambda: adapted(il.Adam(), steps=2.0), "steps: 2.0"),
    "true steps": (lambda: adapted(il.Adam(), steps=True), "steps: True"),
    "tensor steps": (lambda: adapted(il.Adam(), steps=torch.tensor(2)), "steps: tensor"),
    "negative steps": (lambda: adapted(il.Adam(), steps=-1), "steps: -1"),
    "tolerance": (lambda: adapted(il.Adam(), tolerance=float("nan")), "tolerance: nan"),
    "rate": (lambda: il.GradientDescent("fast"), "rate: str"),
    "rates": (lambda: il.GradientDescent({"weight": -0.1}), "rate\\['weight'\\]: -0.1"),
    "missing rate": (
        lambda: adapted(il.GradientDescent({"weight": 0.1})),
        "rate: lacks \\['bias'\\]",
    ),
    "missing decay": (
        lambda: adapted(il.GradientDescent(0.1, weight_decay={"bias": 0.1})),
        "weight_decay: lacks \\['weight'\\]",
    ),
    "infinite rates": (lambda: il.LearningRates(linear(), init=float("inf")), "init: inf"),
    "complex": (
        lambda: il.solve(lambda p: p.abs().sum(), torch.ones(3, dtype=torch.cfloat), il.Adam()),
        "init: torch.complex64, should be real",
    ),
    "sparse": (
        lambda: il.solve(torch.sum, {"w": torch.eye(3).to_sparse()}, il.Adam()),
        "init\\['w'\\]: torch.sparse_coo, should be dense",
    ),
    "sparse meta-parameters": (
        lambda: il.task_gradients(lambda p, t: p.sum(), torch.eye(3).to_sparse(), torch.ones(2)),
        "meta_parameters: torch.sparse_coo",
    ),
    "complex rates": (
        lambda: il.LearningRates({"w": torch.ones(2, dtype=torch.cfloat)}),
        "params\\['w'\\]: torch.complex64",
    ),
    "lazy": (
        lambda: il.solve(lambda p: p["w"].sum(), {"w": nn.LazyLinear(2).weight}, il.Adam()),
        "init\\['w'\\]: has no shape yet",
    ),
}


def adapted(solver, **options):
    return il.adapt(linear(), error, solver, **options)


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments_are_named(name):
    call, message = WRONG[name]
    with pytest.raises((TypeError, ValueError), match=f"^{message}"):
        call()


@pytest.mark.parametrize(
    ("solver", "offered"),
    [
        (
            il.ConjugateGradient(),
            "Quadratic, NormalEquations, LinearLeastSquares, ConvLeastSquares",
        ),
        (il.GaussNewton(), "LeastSquares, Quadratic, NormalEquations, LinearLeastSquares"),
        (il.Ridge(), "NormalEquations, LinearLeastSquares, ConvLeastSquares"),
        (il.IRLS(), "LogisticRegression"),
        (il.GradientDescent(il.ExactLineSearch()), "LeastSquares, Quadratic"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_refusals_name_what_the_package_offers(solver, offered):
    class Own(il.LinearLeastSquares):
        pass

    with pytest.raises(TypeError) as refused:
        il.solve(lambda p: p.square().sum(), torch.ones(3), solver)
    assert all(name in str(refused.value) for name in offered.split(", "))
    assert "Own" not in str(refused.value)
    assert "Coordinates" not in str(refused.value)


TREES = [
    ({"weight": 0.1, "bias": 0.01}, False),
    ({"bias": 0.01, "weight": 0.1}, False),
    ({"weight": torch.tensor(0.1, dtype=torch.float64), "bias": 0.01}, False),
    ([{"weight": 0.1, "bias": 0.01}], True),
]


@pytest.mark.parametrize(("tree", "nested"), TREES)
@pytest.mark.parametrize("adjoint", [il.Unroll(), il.FirstOrder()], ids=["unroll", "first"])
@pytest.mark.parametrize("setting", ["rate", "weight_decay", "momentum"])
def test_settings_may_be_trees(setting, adjoint, tree, nested):
    params = {key: value.detach() for key, value in linear().named_parameters()}

    def loss(params):
        weights = params[0] if nested else params
        return F.mse_loss(F.linear(X, weights["weight"], weights["bias"]), Y)

    options = {"rate": 0.2, setting: tree}
    solver = il.GradientDescent(options.pop("rate"), **options)
    start = [params] if nested else params
    found = il.solve(loss, start, solver, steps=3, adjoint=adjoint).value
    found = found[0] if nested else found

    theirs = {key: value.clone().requires_grad_() for key, value in params.items()}
    name = "lr" if setting == "rate" else setting
    groups = [
        {"params": [theirs[key]], name: value} for key, value in (("weight", 0.1), ("bias", 0.01))
    ]
    optimizer = torch.optim.SGD(groups, lr=0.2)
    for _ in range(3):
        optimizer.zero_grad()
        F.mse_loss(F.linear(X, theirs["weight"], theirs["bias"]), Y).backward()
        optimizer.step()
    for key, value in theirs.items():
        torch.testing.assert_close(found[key], value.detach(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("adjoint", [il.Unroll(), il.FirstOrder(), il.Detach()])
def test_sparse_gradients_are_refused(adjoint):
    net = nn.Embedding(6, 3, sparse=True)
    loss = lambda model: model(torch.tensor([0, 1])).square().sum()  # noqa: E731
    with pytest.raises(ValueError, match="its gradient is torch\\.sparse_coo"):
        il.adapt(net, loss, il.GradientDescent(0.5), adjoint=adjoint)


def conv():
    torch.manual_seed(0)
    x, y = torch.randn(2, 4, 5, 6).double(), torch.randn(2, 2, 5, 6).double()
    return il.ConvLeastSquares(x, y, None, 0.1), torch.randn(2, 4, 3, 3).double()


def matrix():
    torch.manual_seed(0)
    x, y = torch.randn(3, 7, 4).double(), torch.randn(3, 7, 2).double()
    return il.LinearLeastSquares(x, y, None, 0.1), torch.randn(3, 2, 4).double()


@pytest.mark.parametrize("made", [conv, matrix])
@pytest.mark.parametrize("wrong", [lambda right: right + 1e-3, torch.zeros_like, lambda r: 2 * r])
def test_a_wrong_prediction_is_noticed(made, wrong):
    problem, init = made()
    right = problem.predict(init)
    solver = il.SteepestDescent()
    il.solve(problem, init, solver, state=il.SolverState(solver, problem, init, right))
    state = il.SolverState(solver, problem, init, wrong(right))
    with pytest.raises(ValueError, match="prediction is not what the problem predicts"):
        il.solve(problem, init, solver, state=state)


def task_loss(meta, task):
    net, rates = meta
    inner = lambda model: F.mse_loss(model(task), task.sum(-1, keepdim=True))  # noqa: E731
    return inner(il.adapt(net, inner, il.GradientDescent(rates), steps=2))


@pytest.mark.parametrize("mode", ["loop", "threads", "vmap"])
def test_meta_train_trains_modules(mode):
    net = linear()
    rates = il.LearningRates(net, per="neuron", init=0.01)
    parameters = [*net.parameters(), *rates.parameters()]
    tasks = torch.stack([X, X.sin()])
    losses = torch.stack([task_loss([net, rates], task) for task in tasks])
    expected = torch.autograd.grad(losses.mean(), parameters)
    found = il.task_gradients(task_loss, [net, rates], tasks, mode=mode)
    for ours, theirs in zip(
        (g for part in found.gradients for g in part.values()), expected, strict=True
    ):
        torch.testing.assert_close(ours, theirs)
    before = [parameter.detach().clone() for parameter in parameters]
    optimizer = torch.optim.Adam(parameters, lr=0.01)
    il.meta_train(task_loss, [net, rates], [tasks] * 2, optimizer, mode=mode)
    assert all(not torch.equal(a, b) for a, b in zip(before, parameters, strict=True))


def test_meta_train_refuses_what_it_would_not_train():
    net = linear()
    rates = il.LearningRates(net, per="neuron", init=0.01)
    both = torch.optim.Adam([*net.parameters(), *rates.parameters()])
    with pytest.raises(ValueError, match="optimizer: holds 2 tensors that are not among meta_para"):
        il.meta_train(task_loss, [net], [[X]], both)
    alone = torch.optim.Adam(net.parameters())
    with pytest.raises(ValueError, match=r"meta_parameters: .* does not hold \['1.weight', '1.bi"):
        il.meta_train(task_loss, [net, rates], [[X]], alone)
    with pytest.raises(TypeError, match="optimizer: the class Adam"):
        il.meta_train(task_loss, [net, rates], [[X]], torch.optim.Adam)
