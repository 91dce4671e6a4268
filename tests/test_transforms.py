"""Solving under torch.compile, torch.func transforms, autocast and on other devices."""

import pairs
import pytest
import torch
from pairs import ADJOINTS, PROBLEMS, SOLVERS

import innerloop as il
from innerloop import trees

COVERING = pairs.covering(
    row for row in pairs.supported() if row[2] not in ("Unroll(checkpoint)", "FiniteDifference")
)
# Some of each: compiling all of them takes hours.
COMPILED = [
    ("Objective", "GradientDescent", "Unroll"),
    ("ConvLeastSquares", "SteepestDescent", "Unroll"),
    ("LinearLeastSquares", "Ridge", "Unroll"),
    ("Objective", "GradientDescent", "Detach"),
]
COMPILED_SLOWLY = [
    ("Objective", "Adam", "FirstOrder"),
    ("Objective", "GradientDescent(momentum)", "Reptile"),
    ("LogisticRegression", "IRLS", "Truncate"),
    ("LinearLeastSquares", "ConjugateGradient", "Implicit"),
    ("LinearLeastSquares", "MINRES(Nystrom())", "Unroll"),
    ("LinearLeastSquares", "ConjugateGradient(Jacobi())", "Auto"),
    ("ConvLeastSquares", "Ridge", "Unroll"),
    ("NormalEquations", "Ridge", "Unroll"),
    ("NormalEquations (conv)", "ConjugateGradient", "Unroll"),
    ("LeastSquares", "LevenbergMarquardt", "Unroll"),
    ("Objective", "Newton", "OneStep"),
    ("FixedPoint", "Anderson", "Implicit"),
    ("Root", "Broyden", "Unroll"),
    ("LinearSystem", "GMRES", "Unroll"),
    ("Composite", "FISTA", "Unroll"),
    ("Composite (Simplex)", "MirrorDescent", "Unroll"),
]


def outer_loss(problem, solver, adjoint):
    example = PROBLEMS[problem]()
    method, rule = SOLVERS[solver](), ADJOINTS[adjoint]()

    def loss(hyper, init):
        value = il.solve(example.make(hyper), init, method, steps=3, adjoint=rule).value
        return sum((leaf**2).sum() for leaf in trees.leaves(value))

    return loss, example


def eager_gradient(loss, hyper, init):
    hyper, init = trees.tree_map(lambda leaf: leaf.clone().requires_grad_(), (hyper, init))
    outer = loss(hyper, init)
    leaves = trees.leaves((hyper, init))
    if not outer.requires_grad:
        return [torch.zeros_like(leaf) for leaf in leaves]
    return torch.autograd.grad(outer, leaves, materialize_grads=True)


def assert_close(actual, expected, tolerance):
    for a, b in zip(actual, expected, strict=True):
        assert (a - b).abs().max() <= tolerance * b.abs().max().clamp(min=1.0)


@pytest.mark.parametrize(("problem", "solver", "adjoint"), COVERING)
def test_vmap_of_the_gradient_is_each_gradient(problem, solver, adjoint):
    loss, example = outer_loss(problem, solver, adjoint)
    inputs = trees.tree_map(
        lambda leaf: torch.stack([leaf, 1.1 * leaf]), (example.hyper, example.init)
    )
    together = torch.func.vmap(torch.func.grad(loss, argnums=(0, 1)))(*inputs)
    for i in range(2):
        alone = eager_gradient(loss, *trees.tree_map(lambda leaf, i=i: leaf[i], inputs))
        # Inner linear solves of eager code stop at their tolerance.
        assert_close([leaf[i] for leaf in trees.leaves(together)], alone, 1e-7)


@pytest.mark.parametrize(
    ("problem", "solver", "adjoint", "inside"),
    [
        *((*names, inside) for names in COMPILED for inside in (True, False)),
        *(pytest.param(*names, True, marks=pytest.mark.slow) for names in COMPILED_SLOWLY),
    ],
)
def test_compiled_whole(problem, solver, adjoint, inside):
    torch._dynamo.reset()
    loss, example = outer_loss(problem, solver, adjoint)
    expected = eager_gradient(loss, example.hyper, example.init)
    if inside:
        gradient = torch.compile(
            torch.func.grad(loss, argnums=(0, 1)), fullgraph=True, backend="aot_eager"
        )
        actual = trees.leaves(gradient(example.hyper, example.init))
    else:
        compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
        actual = eager_gradient(compiled, example.hyper, example.init)
    assert_close(actual, expected, 1e-9)


@pytest.mark.parametrize("outputs", [1, 8])
def test_the_compiled_gradient_of_what_is_used_as_it_is(outputs):
    torch._dynamo.reset()
    made = (pairs.normal(2, 2, 3, 3), pairs.normal(2, outputs, 3, 3), 1 + 0.1 * pairs.normal(2))

    def loss(features, targets, weights):
        problem = il.ConvLeastSquares(features, targets, weights)
        like = targets.new_zeros(outputs, 2, 3, 3)
        return problem.transpose_weighed(targets, like).square().sum()

    gradient = torch.func.grad(loss, argnums=(0, 1, 2))
    compiled = torch.compile(gradient, fullgraph=True, backend="aot_eager")
    assert_close(compiled(*made), gradient(*made), 1e-9)


def test_a_checkpoint_under_a_transform_is_refused():
    def loss(init):
        return il.solve(
            lambda p: (p**2).sum(), init, il.GradientDescent(), adjoint=il.Unroll(checkpoint=2)
        ).value.sum()

    with pytest.raises(ValueError, match=r"^adjoint: Unroll"):
        torch.func.grad(loss)(torch.ones(2))


def test_checkpointed_code_draws_the_same_numbers_again():
    def outer(adjoint):
        torch.manual_seed(4)
        scale = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
        value = il.solve(
            lambda p: (torch.rand(3, dtype=torch.float64) * (p - scale) ** 2).sum(),
            torch.ones(3, dtype=torch.float64),
            il.GradientDescent(0.3),
            steps=5,
            adjoint=adjoint,
        ).value
        return torch.autograd.grad(value.sum(), scale)[0]

    torch.testing.assert_close(outer(il.Unroll(checkpoint=2)), outer(il.Unroll()))


def test_checkpointed_second_order_gradient():
    def outer(adjoint):
        base = torch.tensor([0.7, 0.2], dtype=torch.float64, requires_grad=True)
        scale = base.exp()  # what the problem closes over has a graph of its own
        value = il.solve(
            lambda p: (torch.cosh(p - scale) * base).sum(),
            torch.ones(2, dtype=torch.float64),
            il.GradientDescent(0.3),
            steps=5,
            adjoint=adjoint,
        ).value
        (first,) = torch.autograd.grad(value.square().sum(), base, create_graph=True)
        return first, torch.autograd.grad(first.sum(), base)[0]

    torch.testing.assert_close(outer(il.Unroll(checkpoint=2)), outer(il.Unroll()))


def test_an_implicit_gradient_taken_twice_is_refused():
    decay = torch.tensor(0.5, requires_grad=True)
    value = il.solve(
        lambda p: ((p - 1) ** 2 + decay * p**2).sum(),
        torch.zeros(2),
        il.Newton(),
        steps=3,
        adjoint=il.Implicit(),
    ).value
    (first,) = torch.autograd.grad(value.sum(), decay, create_graph=True)
    with pytest.raises(RuntimeError, match=r"Implicit\(order=2\)"):
        first.backward()


def test_second_order_implicit_gradient():
    def solution(decay, adjoint):
        return il.solve(
            lambda p: (torch.cosh(p - 1) + decay.exp() * p**4).sum(),
            torch.zeros(2, dtype=torch.float64),
            il.Newton(linear_solver=il.Exact()),
            steps=9,
            adjoint=adjoint,
        ).value

    decay = torch.tensor([0.5, -0.3], dtype=torch.float64, requires_grad=True)
    implicit = il.Implicit(order=2, linear_solver=il.Exact())
    assert torch.autograd.gradgradcheck(lambda d: solution(d, implicit), (decay,))
    with_cg = il.Implicit(order=2)
    assert torch.autograd.gradgradcheck(lambda d: solution(d, with_cg), (decay,))


def test_a_solve_inside_a_solve():
    def inner(outer_params):
        reached = il.solve(
            lambda p: ((p - outer_params) ** 2).sum(),
            torch.zeros(2, dtype=torch.float64),
            il.GradientDescent(0.25),
            steps=2,
        ).value
        return ((reached - 1) ** 2).sum()

    value = il.solve(
        inner, torch.zeros(2, dtype=torch.float64), il.Newton(), steps=1, adjoint=il.Detach()
    ).value
    torch.testing.assert_close(value, torch.full((2,), 4 / 3, dtype=torch.float64))


def test_autocast():
    net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    x, y = torch.randn(16, 4), torch.randn(16, 1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        adapted = il.adapt(
            net, lambda m: ((m(x) - y) ** 2).mean(), il.GradientDescent(0.1), steps=3
        )
        ((adapted(x) - y) ** 2).mean().backward()
    assert adapted.values["0.weight"].dtype == torch.float32
    losses = adapted.solution.stats.losses
    assert losses[-1] < losses[0]
    assert all(p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("problem", "solver", "adjoint"), COMPILED + COMPILED_SLOWLY)
def test_cuda_gives_what_the_cpu_gives(problem, solver, adjoint):
    loss, example = outer_loss(problem, solver, adjoint)
    hyper, init = trees.tree_map(torch.Tensor.cuda, (example.hyper, example.init))
    actual = [leaf.cpu() for leaf in eager_gradient(loss, hyper, init)]
    assert_close(actual, eager_gradient(loss, example.hyper, example.init), 1e-8)


def test_the_same_seed_gives_the_same_numbers():
    def run():
        torch.manual_seed(0)
        return il.solve(
            lambda p: ((p - torch.randn(3)) ** 2).sum(), torch.zeros(3), il.Adam(0.1), steps=5
        ).value

    assert torch.equal(run(), run())
