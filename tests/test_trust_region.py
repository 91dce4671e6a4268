"""Trust regions: their subproblems against dense solutions, and steps at hard places."""

import pytest
import torch
from pairs import normal
from scipy.optimize import brentq

import innerloop as il

SUBPROBLEMS = {"Steihaug": lambda: il.Steihaug(tolerance=1e-12), "Dogleg": il.Dogleg}
SOLVERS = {
    "Steihaug": il.TrustRegion,
    "Dogleg": lambda: il.TrustRegion(il.Dogleg()),
    "GaussNewton": il.GaussNewtonTrustRegion,
    "GaussNewton, Dogleg": lambda: il.GaussNewtonTrustRegion(il.Dogleg()),
}


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def rosenbrock(p):
    return torch.stack([10 * (p[..., 1] - p[..., 0] ** 2), 1 - p[..., 0]], -1)


def model(*eigenvalues, seed=0):
    """A symmetric matrix of these eigenvalues, and a gradient."""
    size = len(eigenvalues)
    basis = torch.linalg.qr(normal(size, size, seed=seed))[0]
    return basis @ torch.diag(tensor(*eigenvalues)) @ basis.T, normal(size, seed=seed + 1)


def solved(subproblem, matrix, gradient, radius):
    return subproblem(lambda v: v @ matrix, gradient, tensor(radius), tensor(1.0))


def value(matrix, gradient, step):
    return gradient @ step + 0.5 * step @ matrix @ step


@pytest.mark.parametrize("name", SUBPROBLEMS)
def test_within_the_radius_the_step_is_newtons(name):
    matrix, gradient = model(0.5, 1, 2, 4)
    found = solved(SUBPROBLEMS[name](), matrix, gradient, 100.0)
    torch.testing.assert_close(found.vector, -torch.linalg.solve(matrix, gradient))
    torch.testing.assert_close(found.response, matrix @ found.vector)
    assert not found.limited


@pytest.mark.parametrize("eigenvalues", [(0.5, 1, 2, 4), (-1, 1, 2, 4), (0, 0, 1, 2), (-1, -2, -3)])
@pytest.mark.parametrize("radius", [1e-3, 0.1, 0.7, 3.0])
@pytest.mark.parametrize("name", SUBPROBLEMS)
def test_steps_are_feasible_and_as_good_as_the_minimum_along_the_gradient(
    name, radius, eigenvalues
):
    for seed in range(5):
        matrix, gradient = model(*eigenvalues, seed=seed)
        found = solved(SUBPROBLEMS[name](), matrix, gradient, radius)
        assert found.vector.norm() <= radius * (1 + 1e-12)
        curvature, square = gradient @ matrix @ gradient, gradient @ gradient
        size = radius / square.sqrt()
        if curvature > 0:
            size = torch.minimum(size, square / curvature)
        cauchy = value(matrix, gradient, -size * gradient)
        assert value(matrix, gradient, found.vector) <= cauchy + 1e-12 * cauchy.abs()
        if found.limited:
            torch.testing.assert_close(found.vector.norm(), tensor(radius)[0])


def test_dogleg_is_where_the_path_crosses_the_radius():
    matrix, gradient = model(0.5, 1, 2, 4)
    lowest = -(gradient @ gradient) / (gradient @ matrix @ gradient) * gradient
    newton = -torch.linalg.solve(matrix, gradient)

    def path(t):
        return t * lowest if t <= 1 else lowest + (t - 1) * (newton - lowest)

    for radius in torch.linspace(0.05, 0.99, 12) * newton.norm():
        crossing = brentq(lambda t, r=radius: float(path(t).norm() - r), 0, 2, xtol=1e-14)
        found = solved(il.Dogleg(), matrix, gradient, float(radius))
        torch.testing.assert_close(found.vector, path(crossing), rtol=1e-6, atol=1e-6)
        assert found.limited


def test_a_forcing_sequence_saves_products():
    matrix, gradient = model(*range(1, 21))
    calls = []

    def product(v):
        calls.append(1)
        return v @ matrix

    counts = []
    for progress in (1.0, 1e-4, 1e-12):
        calls.clear()
        found = il.Steihaug()(product, gradient, tensor(1e3), tensor(progress))
        counts.append(len(calls))
        residual = (matrix @ found.vector + gradient).norm()
        assert residual <= min(0.5, progress**0.5) * gradient.norm()
    assert counts[0] < counts[1] < counts[2]


@pytest.mark.parametrize("name", SOLVERS)
def test_a_batch_is_solved_one_by_one(name):
    init = tensor([-1.2, 1.0], [3.0, -4.0], [1.0, 1.0], [0.0, 0.0])
    solver = SOLVERS[name]()
    batch = il.LeastSquares(rosenbrock, batch_shape=(4,))
    together = il.solve(batch, init, solver, steps=12)
    for index, start in enumerate(init):
        alone = il.solve(il.LeastSquares(rosenbrock), start, solver, steps=12)
        torch.testing.assert_close(together.value[index], alone.value, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(together.stats.step_sizes[:, index], alone.stats.step_sizes)
    assert set(together.stats.step_sizes.flatten().tolist()) == {0.0, 1.0}
    assert torch.equal(together.value[2], init[2])


@pytest.mark.parametrize("name", SOLVERS)
def test_the_loss_never_grows_and_refused_steps_move_nothing(name):
    problem, solver = il.LeastSquares(rosenbrock), SOLVERS[name]()
    params, refused = tensor(-12.0, 10.0), 0
    state = solver.init(problem, params)._replace(radius=tensor(1e3)[0])
    for _ in range(30):
        moved, state, stats = solver.step(problem, params, state)
        refused += int(stats.step_size == 0)
        assert stats.step_size != 0 or torch.equal(moved, params)
        assert problem.loss(moved) <= problem.loss(params) * (1 + 1e-12)
        params = moved
    assert refused


@pytest.mark.parametrize("scale", [2.0**-40, 2.0**40])
def test_the_scale_of_the_loss_does_not_matter(scale):
    for steps in (2, 10):
        values = [
            il.solve(lambda p, s=s: s * rosenbrock(p).square().sum(), tensor(-1.2, 1.0),
                     il.TrustRegion(), steps=steps).value
            for s in (1.0, scale)
        ]  # fmt: skip
        torch.testing.assert_close(*values, rtol=1e-9, atol=1e-9)


def test_a_saddle_is_left():
    start = tensor(1e-3, 1.0)
    found = il.solve(
        lambda p: (p[0] ** 2 - 1) ** 2 + p[1] ** 2, start, il.TrustRegion(), steps=20
    ).value
    torch.testing.assert_close(found, tensor(1.0, 0.0), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", SOLVERS)
def test_a_step_out_of_the_domain_is_refused(name, bad):
    def residual(p):
        return torch.where(p > 0, p.clamp(min=1e-300).log() + 2, bad)

    solution = il.solve(il.LeastSquares(residual), tensor(1.2), SOLVERS[name](), steps=40)
    torch.testing.assert_close(solution.value, tensor(-2.0).exp())


@pytest.mark.parametrize("name", ["Steihaug", "Dogleg"])
@pytest.mark.parametrize(
    "loss", [lambda p: p.log().sum(), lambda p: (p - p).abs().pow(1.5).sum() + p.square().sum()]
)
def test_what_is_nan_is_reported(name, loss):
    """In the loss, and in the second derivative alone."""
    with pytest.raises(il.SolveError, match="NOT_FINITE"):
        il.solve(loss, tensor(-1.0, 2.0), SOLVERS[name](), steps=3)


@pytest.mark.parametrize("name", SOLVERS)
def test_at_a_minimum_the_step_stays(name):
    problem = il.LeastSquares(rosenbrock)
    init = tensor(1.0, 1.0).requires_grad_()
    solution = il.solve(problem, init, SOLVERS[name](), steps=3, tolerance=1e-6)
    assert torch.equal(solution.value, init)
    (gradient,) = torch.autograd.grad(solution.value.sum(), init)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("radius", [0.05, 0.4, 10.0])
@pytest.mark.parametrize("name", SOLVERS)
def test_gradients_are_exact_inside_and_at_the_radius(name, radius):
    solver = SOLVERS[name]()
    solver.radius = radius

    def outer(init, offset):
        problem = il.LeastSquares(lambda p: rosenbrock(p) - offset, 0.2)
        return il.solve(problem, init, solver, steps=4).value

    inputs = [tensor(-1.2, 1.0).requires_grad_(), tensor(0.3, 0.1).requires_grad_()]
    assert torch.autograd.gradcheck(outer, inputs, eps=1e-7, rtol=1e-4)


@pytest.mark.parametrize("curved", [True, False])
def test_large_residuals_are_no_hindrance(curved):
    """Jennrich and Sampson's problem, where Gauss-Newton steps of full length diverge."""
    i = torch.arange(1, 11, dtype=torch.float64)
    problem = il.LeastSquares(lambda p: 2 + 2 * i - (i * p[0]).exp() - (i * p[1]).exp())
    solver = il.TrustRegion() if curved else il.GaussNewtonTrustRegion()
    solution = il.solve(problem, tensor(0.3, 0.4), solver, steps=25 if curved else 60)
    torch.testing.assert_close(problem.loss(solution.value), tensor(62.181)[0], rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", SOLVERS)
def test_squares_of_small_gradients_are_not_lost(name):
    """In single precision the square of the last gradients is zero."""
    scale = torch.tensor([1e-4, 3e-4], requires_grad=True)
    problem = il.LeastSquares(lambda p: scale * p)
    solution = il.solve(problem, torch.tensor([1e-6, 2e-6]), SOLVERS[name](), steps=6)
    assert (solution.stats.losses.diff() <= 0).all()
    (gradient,) = torch.autograd.grad(solution.value.sum(), scale)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", SOLVERS)
def test_lower_precisions_and_trees(name, dtype):
    init = {"a": torch.tensor([3.0], dtype=dtype), "b": torch.tensor([[-1.0]], dtype=dtype)}
    problem = il.LeastSquares(lambda p: {"x": p["a"] - 1, "y": p["b"] * 2 - p["a"]})
    found = il.solve(problem, init, SOLVERS[name](), steps=10).value
    assert found["a"].dtype is dtype
    torch.testing.assert_close(found["b"].float(), torch.tensor([[0.5]]), rtol=2e-2, atol=2e-2)


def test_bad_settings_are_named():
    for radius in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="radius"):
            il.TrustRegion(radius=radius)
    with pytest.raises(TypeError, match="radius"):
        il.TrustRegion(radius="1")
    with pytest.raises(TypeError, match=r"subproblem: .*Steihaug"):
        il.TrustRegion(il.ConjugateGradient())
    with pytest.raises(ValueError, match="steps: 0"):
        il.Steihaug(0)
    with pytest.raises(ValueError, match="tolerance"):
        il.Steihaug(tolerance=-1.0)
    with pytest.raises(TypeError, match="GaussNewtonTrustRegion solves"):
        il.solve(lambda p: p.sum(), tensor(1.0), il.GaussNewtonTrustRegion())
