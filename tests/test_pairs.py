"""Every supported solver x problem x adjoint: its gradient against finite differences."""

import contextlib
import functools
import gc
import weakref

import pairs
import pytest
import torch
from pairs import ADJOINTS, PROBLEMS, SOLVERS, normal

import innerloop as il
from innerloop import trees
from innerloop.solvers.loop import Loop

STEPS = 3
SUPPORTED = pairs.supported()
COVERING = pairs.covering(SUPPORTED)
# Here `Auto` chooses `Unroll`, so that few of its combinations show the same.
TESTED = [row for row in SUPPORTED if row[2] != "Auto" or row in COVERING]


def flat(tree):
    return torch.cat([leaf.reshape(-1) for leaf in trees.leaves(tree)])


def inputs_of(example, seed):
    """Hyperparameters and start as leaves of one list, and a direction to move them along."""
    leaves, spec = trees.flatten((example.hyper, example.init))
    leaves = [leaf.clone().requires_grad_() for leaf in leaves]
    directions = [normal(*leaf.shape, seed=seed + i) for i, leaf in enumerate(leaves)]
    return leaves, spec, directions


KINKED = {
    "Adamax": 1e-5,
    "Lion": 1e-7,
    "NonlinearConjugateGradient": 1e-6,
    "LBFGS": 1e-5,
    "BFGS": 1e-5,
}
"""Steps of finite differences that straddle no kink: of a max, of a sign, of a rounded size."""


def difference(function, leaves, directions, step=2e-4):
    """Directional derivative by an eighth-order central difference."""
    total = 0.0
    for k, factor in ((1, 4 / 5), (2, -1 / 5), (3, 4 / 105), (4, -1 / 280)):
        for sign in (1, -1):
            moved = [
                (leaf + sign * k * step * d).detach()
                for leaf, d in zip(leaves, directions, strict=True)
            ]
            total = total + sign * factor * function(moved).detach() / step
    return total


def derivative(function, leaves, directions):
    gradients = torch.autograd.grad(function(leaves), leaves, allow_unused=True)
    return sum((g * d).sum() for g, d in zip(gradients, directions, strict=True) if g is not None)


def probe(value):
    flattened = flat(value)
    return (normal(flattened.numel(), seed=7) * flattened).sum()


def close(actual, expected, tolerance):
    assert abs(actual - expected) <= tolerance * max(abs(expected), 1e-2), (actual, expected)


@functools.cache
def last_steps(problem, solver, differentiated):
    """The last `differentiated` steps from where the others led: value and finite difference."""
    example = PROBLEMS[problem]()
    leaves, spec, directions = inputs_of(example, seed=3)
    method = SOLVERS[solver]()
    total = 1 if method.direct else STEPS
    constant = max(total - differentiated, 0)
    loop = Loop(example.make(example.hyper), method, total)
    frozen = loop.advance(loop.begin(example.init), constant)

    def reached(leaves):
        hyper, init = trees.unflatten(leaves, spec)
        loop = Loop(example.make(hyper), method, total)
        start = frozen if constant else loop.begin(init)
        return probe(loop.advance(start, total - constant).params)

    # With gradients enabled, so that nothing is taken as known from the problem before.
    expected = difference(reached, leaves, directions, KINKED.get(solver, 2e-4))
    return reached(leaves).detach(), expected


def check_against_steps(problem, solver, adjoint, differentiated):
    example = PROBLEMS[problem]()
    leaves, spec, directions = inputs_of(example, seed=3)

    def solved(leaves):
        hyper, init = trees.unflatten(leaves, spec)
        solution = il.solve(
            example.make(hyper), init, SOLVERS[solver](), steps=STEPS, adjoint=ADJOINTS[adjoint]()
        )
        return probe(solution.value)

    value, expected = last_steps(problem, solver, differentiated)
    close(solved(leaves).detach(), value, 1e-12)
    close(derivative(solved, leaves, directions), expected, 1e-6)


def minimum(problem, init):
    """The solution of a problem to machine precision."""
    solver, steps = il.Newton(linear_solver=il.Exact()), 12
    if isinstance(problem, il.Composite):
        solver, steps = il.ProximalGradient(0.5), 90
    return il.solve(problem, init, solver, steps=steps, adjoint=il.Detach()).value


@functools.cache
def exact(problem):
    """The minimum, and the finite difference of its probe."""
    example = PROBLEMS[problem]()
    leaves, spec, directions = inputs_of(example, seed=5)

    def reached(leaves):
        hyper, init = trees.unflatten(leaves, spec)
        return probe(minimum(example.make(hyper), init))

    start = minimum(example.make(example.hyper), example.init)
    return start, difference(reached, leaves, directions)


def check_against_minimum(problem, solver, adjoint):
    example = PROBLEMS[problem]()
    leaves, spec, directions = inputs_of(example, seed=5)
    start, expected = exact(problem)

    def solved(leaves):
        hyper, _ = trees.unflatten(leaves, spec)
        solution = il.solve(
            example.make(hyper), start, SOLVERS[solver](), steps=2, adjoint=ADJOINTS[adjoint]()
        )
        return probe(solution.value)

    close(derivative(solved, leaves, directions), expected, 1e-5)


def check_first_order(problem, solver):
    example = PROBLEMS[problem]()
    init = trees.tree_map(lambda p: p.clone().requires_grad_(), example.init)
    rate = torch.tensor(0.05, dtype=torch.float64, requires_grad=True)
    method = SOLVERS[solver]()
    searched = isinstance(method.rate, il.StepSize)
    if not searched:
        method.rate = rate
    made = example.make(example.hyper)
    value = il.solve(made, init, method, steps=STEPS, adjoint=il.FirstOrder()).value
    plain = il.solve(made, example.init, method, steps=STEPS, adjoint=il.Detach()).value
    torch.testing.assert_close(flat(value), flat(plain), rtol=1e-13, atol=1e-13)

    outer = probe(value)
    for gradient, expected in zip(
        torch.autograd.grad(outer, trees.leaves(init), retain_graph=True),
        torch.autograd.grad(
            probe(plain_leaf := trees.tree_map(lambda p: p.detach().requires_grad_(), plain)),
            trees.leaves(plain_leaf),
        ),
        strict=True,
    ):
        torch.testing.assert_close(gradient, expected)
    if not searched:
        (gradient,) = torch.autograd.grad(outer, rate)
        travelled = (flat(plain) - flat(example.init)) / rate.detach()
        close(gradient, probe(travelled), 1e-10)


@pytest.mark.parametrize(("problem", "solver", "adjoint"), TESTED)
def test_gradient(problem, solver, adjoint):
    if adjoint in ("Unroll", "Unroll(checkpoint)", "Auto"):
        check_against_steps(problem, solver, adjoint, STEPS)
    elif adjoint == "Truncate":
        check_against_steps(problem, solver, adjoint, 2)
    elif adjoint in ("OneStep", "FiniteDifference"):
        check_against_steps(problem, solver, adjoint, 1)
    elif adjoint == "Implicit":
        check_against_minimum(problem, solver, adjoint)
    elif adjoint == "FirstOrder":
        check_first_order(problem, solver)
    else:
        example = PROBLEMS[problem]()
        init = trees.tree_map(lambda p: p.clone().requires_grad_(), example.init)
        rule = ADJOINTS[adjoint]()
        made = example.make(example.hyper)
        value = il.solve(made, init, SOLVERS[solver](), steps=STEPS, adjoint=rule).value
        if adjoint == "Detach":
            assert not any(leaf.requires_grad for leaf in trees.leaves(value))
            return
        gradients = torch.autograd.grad(probe(value), trees.leaves(init))
        for gradient, start, end in zip(
            gradients, trees.leaves(init), trees.leaves(value), strict=True
        ):
            assert torch.equal(gradient, start.detach() - end.detach())


@pytest.mark.parametrize("taken", [False, True])
@pytest.mark.parametrize("adjoint", ADJOINTS)
def test_graphs_are_freed(adjoint, taken):
    """What a solve keeps for its gradient goes with its solution, the gradient taken or not."""
    alive = {}
    for row in COVERING:
        if row[2] != adjoint:
            continue
        leaves, spec, _ = inputs_of(PROBLEMS[row[0]](), seed=3)
        hyper, init = trees.unflatten(leaves, spec)
        made = PROBLEMS[row[0]]().make(hyper)
        solution = il.solve(made, init, SOLVERS[row[1]](), steps=STEPS, adjoint=ADJOINTS[adjoint]())
        if taken and adjoint != "Detach":
            # Where steps are few, the linear system is that of no minimum.
            with contextlib.suppress(il.LinearSolveError):
                torch.autograd.grad(probe(solution.value), leaves, allow_unused=True)
        alive[row] = [weakref.ref(leaf) for leaf in leaves]
        del leaves, hyper, init, made, solution
    gc.collect()
    assert not [row for row, leaves in alive.items() if any(leaf() is not None for leaf in leaves)]


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("solver", SOLVERS)
def test_other_pairs_are_refused_with_what_works(problem, solver):
    for adjoint in ADJOINTS:
        if (problem, solver, adjoint) not in SUPPORTED:
            error = pairs.refusal(problem, solver, adjoint)
            assert any(name in str(error) for name in (*SOLVERS, *ADJOINTS)), error


def test_the_table_in_the_documentation_is_current():
    assert pairs.TABLE.read_text(encoding="utf-8") == pairs.table()
