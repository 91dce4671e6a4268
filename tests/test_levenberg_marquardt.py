"""Levenberg-Marquardt and Gauss-Newton where the Jacobian is badly scaled or singular."""

import pytest
import torch
from pairs import normal

import innerloop as il
from innerloop.solvers.levenberg_marquardt import DENSE


def rosenbrock(p):
    return torch.stack([10 * (p[..., 1] - p[..., 0] ** 2), 1 - p[..., 0]], -1)


def powell(p):
    a, b = p[..., 0], p[..., 1]
    return torch.stack([1e4 * a * b - 1, torch.exp(-a) + torch.exp(-b) - 1.0001], -1)


def decay(p):
    """A sum of exponentials whose rates and heights have units far apart."""
    t = torch.linspace(0, 4, 12, dtype=torch.float64)
    fit = 1e-6 * p[0] * torch.exp(-1e3 * p[1] * t) + p[2] * torch.exp(-1e-4 * p[3] * t)
    return fit - 3 * torch.exp(-0.4 * t) - torch.exp(-2.0 * t)


BADLY_SCALED = [
    (powell, [0.0, 1.0], 40),
    (decay, [2e6, 1e-3, 2.0, 1e3], 40),
    (lambda p: torch.stack([p[0] - 1e6, p[1] - 2e-6, p[0] * p[1] - 2]), [1.0, 1.0], 40),
]


@pytest.mark.parametrize(("residual", "init", "steps"), BADLY_SCALED)
def test_badly_scaled_problems_are_solved(residual, init, steps):
    init = torch.tensor(init, dtype=torch.float64)
    solver = il.LevenbergMarquardt()
    value = il.solve(il.LeastSquares(residual), init, solver, steps=steps).value
    assert residual(value).square().sum() < 1e-16


@pytest.mark.parametrize("units", [[1e6, 1e-6], [1e-9, 1.0], [1e3, 1e8]])
def test_units_of_the_parameters_do_not_matter(units):
    units = torch.tensor(units, dtype=torch.float64)
    init = torch.tensor([-1.2, 1.0], dtype=torch.float64)
    solver = il.LevenbergMarquardt(radius=0.1)
    for steps in (1, 3, 8):
        plain = il.solve(il.LeastSquares(rosenbrock), init, solver, steps=steps).value
        problem = il.LeastSquares(lambda p: rosenbrock(p * units))
        scaled = il.solve(problem, init / units, solver, steps=steps).value * units
        torch.testing.assert_close(scaled, plain, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("factor", [2.0**-20, 2.0**20])
def test_the_scale_of_the_loss_does_not_matter_without_a_matrix(factor):
    init = torch.tensor([-1.2, 1.0], dtype=torch.float64)
    solver = il.LevenbergMarquardt(linear_solver=il.ConjugateGradient())
    for steps in (2, 10):
        plain = il.solve(il.LeastSquares(rosenbrock), init, solver, steps=steps).value
        problem = il.LeastSquares(lambda p: factor * rosenbrock(p))
        scaled = il.solve(problem, init, solver, steps=steps).value
        torch.testing.assert_close(scaled, plain, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("linear_solver", [None, il.ConjugateGradient()])
@pytest.mark.parametrize("regularization", [0.0, 0.3])
def test_a_batch_is_solved_one_by_one(linear_solver, regularization):
    init = torch.tensor([[-1.2, 1.0], [3.0, -4.0], [1.0, 1.0], [0.0, 0.0]], dtype=torch.float64)
    solver = il.LevenbergMarquardt(linear_solver=linear_solver, radius=1.0)
    together = il.solve(
        il.LeastSquares(rosenbrock, regularization, batch_shape=(4,)), init, solver, steps=9
    )
    taken = set()
    for i, start in enumerate(init):
        alone = il.solve(il.LeastSquares(rosenbrock, regularization), start, solver, steps=9)
        torch.testing.assert_close(together.value[i], alone.value, rtol=1e-7, atol=1e-8)
        taken |= set(alone.stats.step_sizes.tolist())
    assert taken == {0.0, 1.0}


@pytest.mark.parametrize("linear_solver", [None, il.ConjugateGradient(), il.Exact()])
def test_the_loss_never_grows_and_refused_steps_move_nothing(linear_solver):
    problem = il.LeastSquares(lambda p: torch.cat([rosenbrock(p), p.sum()[None].sin()]))
    solver = il.LevenbergMarquardt(linear_solver=linear_solver, radius=1e3)
    params = torch.tensor([-12.0, 10.0], dtype=torch.float64)
    state = solver.init(problem, params)
    refused = 0
    for _ in range(20):
        moved, state, stats = solver.step(problem, params, state)
        if stats.step_size == 0:
            refused += 1
            assert torch.equal(moved, params)
        assert problem.loss(moved) <= problem.loss(params) * (1 + 1e-12)
        params = moved
    assert refused


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("linear_solver", [None, il.ConjugateGradient()])
def test_a_step_out_of_the_domain_is_refused(bad, linear_solver):
    def residual(p):
        return torch.where(p > 0, p.clamp(min=1e-300).log() + 2, bad)

    init = torch.tensor([9.0], dtype=torch.float64)
    solver = il.LevenbergMarquardt(linear_solver=linear_solver)
    solution = il.solve(il.LeastSquares(residual), init, solver, steps=40)
    assert (solution.stats.step_sizes == 0).any()
    torch.testing.assert_close(solution.value, torch.exp(torch.full_like(init, -2.0)))


@pytest.mark.parametrize("linear_solver", [None, il.ConjugateGradient()])
def test_nan_at_the_start_is_reported(linear_solver):
    problem = il.LeastSquares(lambda p: p.log())
    init = torch.tensor([-1.0, 2.0], dtype=torch.float64)
    solver = il.LevenbergMarquardt(linear_solver=linear_solver)
    with pytest.raises(il.SolveError, match="NOT_FINITE"):
        il.solve(problem, init, solver, steps=3)


@pytest.mark.parametrize("radius", [1e-2, 0.3, 100.0])
@pytest.mark.parametrize("linear_solver", [None, il.ConjugateGradient()])
def test_gradients_are_exact_inside_and_outside_the_trust_region(radius, linear_solver):
    solver = il.LevenbergMarquardt(radius=radius, linear_solver=linear_solver)

    def outer(init, offset, regularization):
        problem = il.LeastSquares(lambda p: rosenbrock(p) - offset, regularization)
        return il.solve(problem, init, solver, steps=4).value

    inputs = [
        torch.tensor(v, dtype=torch.float64, requires_grad=True)
        for v in ([-1.2, 1.0], [0.3, 0.1], 0.0)
    ]
    inputs[2] = torch.tensor(0.2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(outer, inputs, eps=1e-7, rtol=1e-4)


def test_the_gradient_of_a_regularization_of_zero_is_finite_and_right():
    data = normal(5, 3)
    targets = normal(5, seed=1)
    regularization = torch.tensor(0.0, dtype=torch.float64, requires_grad=True)
    problem = il.LeastSquares(lambda p: data @ p - targets, regularization)
    value = il.solve(problem, torch.zeros(3).double(), il.LevenbergMarquardt(), steps=2).value
    (found,) = torch.autograd.grad(value.sum(), regularization)
    gram = data.T @ data
    exact = -torch.linalg.solve(gram, torch.linalg.solve(gram, data.T @ targets)).sum()
    torch.testing.assert_close(found, exact, rtol=1e-8, atol=0)


def test_a_step_at_the_solution_has_the_gradient_of_the_solution():
    target = torch.tensor([2.0, 5.0], dtype=torch.float64, requires_grad=True)
    problem = il.LeastSquares(lambda p: p**2 - target)
    solver, adjoint = il.LevenbergMarquardt(), il.OneStep()
    init = torch.ones(2, dtype=torch.float64)
    value = il.solve(problem, init, solver, steps=30, adjoint=adjoint).value
    (found,) = torch.autograd.grad(value.sum(), target)
    torch.testing.assert_close(found, 0.5 / target.detach().sqrt(), rtol=1e-7, atol=0)


def test_many_parameters_are_solved_without_a_matrix():
    size = DENSE + 1
    scale = torch.linspace(0.5, 2, size, dtype=torch.float64)

    def residual(p):
        return scale * (p + 0.1 * p**3 - 1)

    problem = il.LeastSquares(residual)
    init = torch.zeros(size, dtype=torch.float64)
    value = il.solve(problem, init, il.LevenbergMarquardt(), steps=15).value
    assert residual(value).abs().max() < 1e-8


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lower_precisions(dtype):
    init = {"a": torch.tensor([3.0], dtype=dtype), "b": torch.tensor([[-1.0]], dtype=dtype)}
    problem = il.LeastSquares(lambda p: {"x": p["a"] - 1, "y": p["b"] * 2 - p["a"]})
    value = il.solve(problem, init, il.LevenbergMarquardt(), steps=5).value
    assert value["a"].dtype is dtype
    torch.testing.assert_close(value["b"].float(), torch.tensor([[0.5]]), rtol=1e-2, atol=1e-2)


SINGULAR = {
    "a column of zeros": (lambda p: torch.stack([p[0] - 1, p[0] ** 2 - 1]), [3.0, 2.0]),
    "equal columns": (lambda p: torch.stack([p.sum() - 1, p.sum() ** 2 - 1]), [3.0, 2.0]),
    "fewer rows than columns": (lambda p: p.prod()[None] - 1, [3.0, 2.0, 1.0]),
    "no slope at the start": (lambda p: torch.stack([p[0] ** 2 + 1, p[1] - 1]), [0.0, 2.0]),
    "no slope at all": (lambda p: 0 * p + 1, [1.0, 2.0]),
    "singular at the solution": (lambda p: torch.stack([p[0] ** 2, p[0] + 10 * p[1]]), [3.0, -1.0]),
}
METHODS = {
    "LevenbergMarquardt": il.LevenbergMarquardt(),
    "LevenbergMarquardt(matrix-free)": il.LevenbergMarquardt(linear_solver=il.ConjugateGradient()),
    "GaussNewton": il.GaussNewton(),
    "GaussNewton(Exact)": il.GaussNewton(linear_solver=il.Exact()),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", SINGULAR)
def test_a_singular_jacobian_is_survived(name, method):
    residual, start = SINGULAR[name]
    init = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    problem = il.LeastSquares(residual)
    solution = il.solve(problem, init, METHODS[method], steps=12)
    (gradient,) = torch.autograd.grad(solution.value.sum(), init)
    assert gradient.isfinite().all()
    _, slope = problem.value_and_gradient(solution.value.detach())
    assert slope.abs().max() < 1e-4
    if name == "a column of zeros":
        assert solution.value[1] == 2
        torch.testing.assert_close(gradient[1], torch.ones(()).double())


@pytest.mark.parametrize("linear_solver", [None, il.Exact()])
def test_gauss_newton_takes_the_least_step_of_a_singular_system(linear_solver):
    data = normal(6, 2) @ normal(2, 4, seed=1)
    targets = normal(6, seed=2).requires_grad_()
    init = normal(4, seed=3)

    def outer(targets):
        solver = il.GaussNewton(linear_solver=linear_solver)
        return il.solve(il.LeastSquares(lambda p: data @ p - targets), init, solver).value

    exact = init + torch.linalg.pinv(data) @ (targets - data @ init)
    torch.testing.assert_close(outer(targets), exact, rtol=1e-8, atol=1e-9)
    assert torch.autograd.gradcheck(outer, targets)


@pytest.mark.parametrize(
    "arguments", [{"damping": -1.0}, {"radius": 0.0}, {"radius": float("nan")}, {"linear_steps": 0}]
)
def test_bad_arguments_are_refused(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        il.LevenbergMarquardt(**arguments)


def test_what_solves_no_linear_system_is_refused():
    with pytest.raises(TypeError, match="linear_solver"):
        il.LevenbergMarquardt(linear_solver=il.IRLS())
