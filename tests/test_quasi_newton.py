"""BFGS, L-BFGS and nonlinear conjugate gradients: their formulas and their searches."""

import pytest
import torch
from pairs import normal

import innerloop as il
from innerloop.solvers.wolfe import StrongWolfe

SOLVERS = {
    "BFGS": (il.BFGS, "BFGS"),
    "L-BFGS": (il.LBFGS, "L-BFGS-B"),
    "CG": (il.NonlinearConjugateGradient, "CG"),
}


def quadratic(size=5, batch=()):
    """Strongly convex, with its minimum."""
    root = normal(*batch, size, size)
    matrix = root @ root.mT + torch.eye(size, dtype=torch.float64)
    right = normal(*batch, size, seed=1)
    minimum = torch.linalg.solve(matrix, right)

    def loss(x):
        product = (matrix @ x.unsqueeze(-1)).squeeze(-1)
        return (0.5 * x * product - x * right).sum(-1)

    return loss, minimum, matrix


class Batched(il.Problem):
    """Independent problems."""

    def __init__(self, loss, batch_shape):
        self._loss, self.batch_shape = loss, torch.Size(batch_shape)

    def loss(self, params):
        return self._loss(params)


@pytest.mark.parametrize("name", SOLVERS)
def test_a_quadratic_is_solved(name):
    loss, minimum, _ = quadratic()
    found = il.solve(loss, torch.zeros(5, dtype=torch.float64), SOLVERS[name][0](), steps=60)
    torch.testing.assert_close(found.value, minimum, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", SOLVERS)
def test_problems_of_a_batch_do_not_see_each_other(name):
    loss, _, _ = quadratic(batch=(3,))
    init = normal(3, 5, seed=2)
    init[1] *= 100
    together = il.solve(Batched(loss, (3,)), init, SOLVERS[name][0](), steps=6).value
    for index in range(3):
        alone, _, _ = quadratic(batch=(3,))

        def one(x, index=index, alone=alone):
            return alone(x.expand(3, 5))[index]

        found = il.solve(one, init[index], SOLVERS[name][0](), steps=6).value
        torch.testing.assert_close(together[index], found, rtol=1e-9, atol=1e-9)


def test_the_inverse_hessian_of_bfgs_is_that_of_the_formula():
    loss, _, _ = quadratic()
    solver, state = il.BFGS(), None
    x = normal(5, seed=3)
    problem = il.Objective(loss)
    state, points, gradients = solver.init(problem, x), [], []
    for _ in range(4):
        points.append(x)
        gradients.append(torch.func.grad(loss)(x))
        x, state, _ = solver.step(problem, x, state)
    inverse, eye = None, torch.eye(5, dtype=torch.float64)
    for k in range(3):
        s, y = points[k + 1] - points[k], gradients[k + 1] - gradients[k]
        if inverse is None:
            inverse = (s @ y) / (y @ y) * eye
        side = eye - torch.outer(s, y) / (s @ y)
        inverse = side @ inverse @ side.T + torch.outer(s, s) / (s @ y)
    torch.testing.assert_close(state.memory.matrix, inverse, rtol=1e-9, atol=1e-9)


def test_with_room_for_all_steps_lbfgs_is_bfgs_of_its_own_scale():
    """The two-loop recursion against the matrix that it stands for."""
    loss, _, _ = quadratic()
    problem, x, solver = il.Objective(loss), normal(5, seed=3), il.LBFGS(4)
    state, pairs, before = solver.init(problem, x), [], None
    for _ in range(4):
        gradient = torch.func.grad(loss)(x)
        if before is not None:
            pairs.append((x - before[0], gradient - before[1]))
        before = x, gradient
        direction = solver.direction(x, gradient, state.memory).vector
        if pairs:
            s, y = pairs[-1]
            inverse = (s @ y) / (y @ y) * torch.eye(5, dtype=torch.float64)
            for s, y in pairs:
                side = torch.eye(5, dtype=torch.float64) - torch.outer(s, y) / (s @ y)
                inverse = side @ inverse @ side.T + torch.outer(s, s) / (s @ y)
            torch.testing.assert_close(direction, -inverse @ gradient, rtol=1e-9, atol=1e-9)
        x, state, _ = solver.step(problem, x, state)


@pytest.mark.parametrize("name", SOLVERS)
def test_every_step_satisfies_the_strong_wolfe_conditions(name):
    def loss(p):
        return (1 - p[0]) ** 2 + 100 * (p[1] - p[0] ** 2) ** 2

    problem, solver = il.Objective(loss), SOLVERS[name][0]()
    x, steepest = torch.tensor([-1.2, 1.0], dtype=torch.float64), solver.search
    state = solver.init(problem, x)
    for _ in range(20):
        value, gradient = problem.value_and_gradient(x)
        new, state, _ = solver.step(problem, x, state)
        reached, slope = problem.value_and_gradient(new)
        start, end = gradient @ (new - x), slope @ (new - x)
        assert start < 0
        assert reached <= value + steepest.decrease * start
        assert end.abs() <= -steepest.curvature * start
        x = new


@pytest.mark.parametrize("name", SOLVERS)
def test_what_is_known_saves_evaluations_and_changes_nothing(name):
    loss, _, _ = quadratic()
    calls = []

    class Counting(il.Objective):
        def value_and_gradient(self, params):
            calls.append(1)
            return super().value_and_gradient(params)

    init = normal(5, seed=3)
    with_gradients = il.solve(Counting(loss), init, SOLVERS[name][0](), steps=5)
    many = len(calls)
    calls.clear()
    with torch.no_grad():
        without = il.solve(Counting(loss), init, SOLVERS[name][0](), steps=5)
    assert torch.equal(without.value, with_gradients.value)
    assert len(calls) == many - 4
    # The next problem is another one.
    other = Counting(lambda x: loss(x - 1))
    with torch.no_grad():
        carried = il.solve(other, without.value, SOLVERS[name][0](), steps=1, state=without.state)
    torch.testing.assert_close(carried.stats.losses[0], loss(without.value - 1))


@pytest.mark.parametrize("name", SOLVERS)
def test_what_cannot_go_down_stays_and_ends(name):
    flat = il.solve(lambda x: 0 * x.sum() + 1, torch.ones(3), SOLVERS[name][0](), steps=3)
    assert torch.equal(flat.value, torch.ones(3))
    walled = il.solve(
        lambda x: torch.where(x > 1, torch.nan, -x).sum(),
        torch.tensor([0.5], dtype=torch.float64),
        SOLVERS[name][0](),
        steps=5,
    )
    assert 0.5 < walled.value <= 1


def test_bad_settings_are_named():
    with pytest.raises(ValueError, match=r"decrease, curvature: 0\.5, 0\.4"):
        StrongWolfe(decrease=0.5, curvature=0.4)
    with pytest.raises(ValueError, match="trials: 0"):
        StrongWolfe(trials=0)
    with pytest.raises(ValueError, match="history: 0"):
        il.LBFGS(0)
    with pytest.raises(TypeError, match="search: float"):
        il.BFGS(search=0.1)


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("least", [0.0, 1.0])
def test_a_solved_problem_is_not_searched_on(name, least):
    """With a least loss of zero, and with one whose last digits hide the decrease."""
    _, minimum, matrix = quadratic()
    calls = []

    class Counting(il.Objective):
        def value_and_gradient(self, params):
            calls.append(1)
            return super().value_and_gradient(params)

    def loss(x):
        return 0.5 * (x - minimum) @ matrix @ (x - minimum) + least

    with torch.no_grad():
        solver = SOLVERS[name][0]()
        start = torch.zeros(5, dtype=torch.float64)
        reached = il.solve(Counting(loss), start, solver, steps=60)
        calls.clear()
        value = il.solve(Counting(loss), reached.value, solver, steps=10, state=reached.state)
    torch.testing.assert_close(value.value, minimum, rtol=1e-6, atol=1e-6)
    assert len(calls) <= 60  # 200 sizes would be tried


@pytest.mark.parametrize("solver", [il.BFGS(), il.LBFGS(3), il.NonlinearConjugateGradient()])
def test_derivatives_at_a_tiny_scale_are_those_at_any_scale(solver):
    matrix = torch.tensor([[2.0, 0.3], [0.3, 1.0]])

    def gradient(scale):
        init = (scale * torch.tensor([0.1, -0.2])).requires_grad_()
        value = il.solve(lambda p: 0.5 * p @ matrix @ p, init, solver, steps=3).value
        return torch.autograd.grad(value.sum(), init)[0]

    # There, squares of gradients are numbers of float32, but the squares of these are not.
    expected = gradient(1.0)
    assert (expected != 0).all()
    torch.testing.assert_close(gradient(2.0**-56), expected, rtol=1e-3, atol=1e-4)
