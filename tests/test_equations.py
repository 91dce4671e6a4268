"""Linear systems, roots and fixed points: their solvers' formulas, scipy, and gradients."""

import pytest
import scipy.optimize
import torch
from pairs import normal

import innerloop as il
from innerloop import trees

F64 = torch.float64
EYE = torch.eye(6, dtype=F64)
SYSTEMS = {
    "not symmetric": EYE + 0.3 * normal(6, 6),
    "indefinite": normal(6, 6) + normal(6, 6).mT,
    "a rotation": torch.block_diag(*[torch.tensor([[0.0, 1], [-1, 0]], dtype=F64)] * 3),
}


def system(matrix, right):
    return il.LinearSystem(
        lambda p: (matrix @ p.unsqueeze(-1)).squeeze(-1), right, right.shape[:-1]
    )


@pytest.mark.parametrize("name", SYSTEMS)
def test_gmres_leaves_the_least_residual_of_all_points_that_it_can_reach(name):
    matrix, right, start = SYSTEMS[name], normal(6), normal(6, seed=1)
    residual = right - matrix @ start
    space = [residual]
    for steps in range(1, 7):
        found = il.solve(system(matrix, right), start, il.GMRES(), steps=steps).value
        images = matrix @ torch.linalg.qr(torch.stack(space, -1)).Q
        best = torch.linalg.lstsq(images, residual.unsqueeze(-1), driver="gelsd").solution
        expected = (residual - (images @ best).squeeze(-1)).norm()
        torch.testing.assert_close((right - matrix @ found).norm(), expected, rtol=1e-6, atol=1e-9)
        space.append(matrix @ space[-1])
    torch.testing.assert_close(found, torch.linalg.solve(matrix, right), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_gmres_solves_each_problem_of_a_batch_and_stays_there(dtype):
    matrices = torch.stack([EYE, *SYSTEMS.values(), 1e6 * SYSTEMS["indefinite"]]).to(dtype)
    right = normal(5, 6).to(dtype)
    right[0] = 0
    found = il.solve(system(matrices, right), torch.zeros_like(right), il.GMRES(), steps=12)
    exact = torch.linalg.solve(matrices.double(), right.double())
    error = 1e-12 if dtype == F64 else 2e-4
    torch.testing.assert_close(found.value.double(), exact, rtol=error, atol=error)
    assert found.stats.losses.isfinite().all()
    # What is reported is the loss, though no step evaluates it.
    for step in range(3):
        value = il.solve(system(matrices, right), torch.zeros_like(right), il.GMRES(), steps=step)
        loss = system(matrices, right).loss(value.value)
        torch.testing.assert_close(found.stats.losses[step], loss, rtol=1e-4, atol=1e-6)


def test_gmres_reports_the_objective_of_a_quadratic_problem():
    problem = il.LinearLeastSquares(normal(7, 4), normal(7, 2), regularization=0.3)
    start = normal(2, 4, seed=2)
    found = il.solve(problem, start, il.GMRES(), steps=6)
    for step in range(6):
        value = il.solve(problem, start, il.GMRES(), steps=step).value
        torch.testing.assert_close(found.stats.losses[step], problem.loss(value))
    torch.testing.assert_close(found.value, il.solve(problem, start, il.Ridge()).value)


def test_gmres_begins_again():
    matrix, right = EYE + 0.2 * normal(6, 6), normal(6)
    found = il.solve(system(matrix, right), torch.zeros(6, dtype=F64), il.GMRES(2), steps=60)
    torch.testing.assert_close(found.value, torch.linalg.solve(matrix, right))
    assert (found.stats.gradient_norms.diff() <= 1e-15).all()
    with pytest.raises(ValueError, match=r"restart: 0"):
        il.GMRES(0)


def test_gradient_of_the_solution_of_a_linear_system():
    matrix = SYSTEMS["not symmetric"].clone().requires_grad_()
    right = normal(2, 6).requires_grad_()
    for solver, steps in ((il.GMRES(), 6), (il.Exact(), 1), (il.Neumann(0.7), 60)):

        def solution(matrix, right, solver=solver, steps=steps):
            problem = system(matrix.expand(2, 6, 6), right)
            start = torch.zeros(2, 6, dtype=F64)
            implicit = il.Implicit(solver, steps=steps, order=2)
            return il.solve(problem, start, il.Exact(), adjoint=implicit).value

        assert torch.autograd.gradcheck(solution, (matrix, right), fast_mode=True)
        assert torch.autograd.gradgradcheck(solution, (matrix, right), fast_mode=True)


def layer(weight, bias):
    return lambda z: torch.tanh(z @ weight.mT + bias)


WEIGHT, BIAS = 0.35 * normal(6, 6, seed=4), normal(3, 6, seed=5)
ITERATIONS = {
    "plain": il.FixedPointIteration,
    "damped": lambda: il.FixedPointIteration(0.7),
    "Anderson": il.Anderson,
    "Broyden": il.Broyden,
    "NewtonRaphson": il.NewtonRaphson,
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", ITERATIONS)
def test_fixed_points_are_those_that_scipy_finds(name, dtype):
    f = layer(WEIGHT, BIAS)
    tolerance = 1e-10 if dtype == F64 else 1e-6
    found = il.solve(
        il.FixedPoint(layer(WEIGHT.to(dtype), BIAS.to(dtype)), (3,)),
        torch.zeros(3, 6, dtype=dtype),
        ITERATIONS[name](),
        steps=150,
        tolerance=tolerance,
    )
    expected = scipy.optimize.fixed_point(lambda z: f(torch.from_numpy(z)).numpy(), BIAS.numpy())
    torch.testing.assert_close(
        found.value.double(), torch.from_numpy(expected), rtol=1e3 * tolerance, atol=1e2 * tolerance
    )
    assert found.status is il.Status.CONVERGED
    assert found.value.dtype == dtype


def test_acceleration_saves_evaluations():
    def evaluations(solver):
        problem = il.FixedPoint(layer(WEIGHT, BIAS), (3,))
        start = torch.zeros(3, 6, dtype=F64)
        return len(il.solve(problem, start, solver, steps=200, tolerance=1e-9).stats.losses)

    plain = evaluations(il.FixedPointIteration())
    assert evaluations(il.Anderson(1)) < 0.8 * plain
    assert evaluations(il.Anderson()) < 0.5 * plain
    assert evaluations(il.Broyden()) < 0.7 * plain


def test_the_losses_are_those_of_least_squares():
    problem = il.FixedPoint(layer(WEIGHT, BIAS), (3,))
    found = il.solve(problem, BIAS, il.FixedPointIteration(), steps=4)
    value = BIAS
    for step in range(4):
        change = layer(WEIGHT, BIAS)(value) - value
        torch.testing.assert_close(found.stats.losses[step], 0.5 * change.square().sum(-1))
        torch.testing.assert_close(found.stats.gradient_norms[step], change.norm(dim=-1))
        value = value + change
    torch.testing.assert_close(found.value, value)


@pytest.mark.parametrize("rate", [1.0, 0.6])
def test_anderson_is_the_constrained_least_squares_of_the_paper(rate):
    """Walker and Ni, eq. 2.1: weights that sum to 1, and mixing."""
    f, history = layer(WEIGHT, BIAS[0]), 3
    points, solver = [normal(6, seed=8)], il.Anderson(history, rate)
    for step in range(6):
        recent = torch.stack(points[-history - 1 :], -1)
        changes = torch.stack([f(point) - point for point in points[-history - 1 :]], -1)
        count = changes.shape[-1]
        ones = torch.ones(count, 1, dtype=F64)
        kkt = torch.cat(
            [
                torch.cat([changes.mT @ changes, ones], -1),
                torch.cat([ones.mT, torch.zeros(1, 1, dtype=F64)], -1),
            ]
        )
        right = torch.zeros(count + 1, dtype=F64)
        right[-1] = 1
        weights = torch.linalg.solve(kkt, right)[:-1]
        points.append(recent @ weights + rate * (changes @ weights))
        found = il.solve(il.FixedPoint(f), points[0], solver, steps=step + 1).value
        torch.testing.assert_close(found, points[-1], rtol=1e-6, atol=1e-6)


def test_anderson_of_a_linear_map_follows_gmres():
    """Walker and Ni, theorem 2.2: the next point is f of the one that GMRES reaches."""
    matrix, right, start = 0.4 * normal(6, 6), normal(6), normal(6, seed=1)
    for steps in range(1, 5):
        gmres = il.solve(system(EYE - matrix, right), start, il.GMRES(), steps=steps).value
        problem = il.FixedPoint(lambda p: matrix @ p + right)
        found = il.solve(problem, start, il.Anderson(10), steps=steps + 1).value
        torch.testing.assert_close(found, matrix @ gmres + right, rtol=1e-6, atol=1e-7)


def test_the_inverse_jacobian_of_broyden_is_that_of_the_formula():
    def f(p):
        return p + 0.5 * torch.sin(WEIGHT @ p) - BIAS[0]

    jacobian, point = EYE / 0.8, normal(6, seed=9)
    for step in range(5):
        move = -torch.linalg.solve(jacobian, f(point))
        change = f(point + move) - f(point)
        jacobian = jacobian + torch.outer(change - jacobian @ move, move) / (move @ move)
        point = point + move
        found = il.solve(il.Root(f), normal(6, seed=9), il.Broyden(0.8), steps=step + 1).value
        torch.testing.assert_close(found, point, rtol=1e-9, atol=1e-9)


def powell(p):
    """A badly scaled system with one solution, at which its Jacobian is regular."""
    return torch.stack([1e4 * p[0] * p[1] - 1, torch.exp(-p[0]) + torch.exp(-p[1]) - 1.0001])


def rosenbrock(p):
    return torch.stack([10 * (p[1] - p[0] ** 2), 1 - p[0]])


def trigonometric(p):
    count = torch.arange(1, 6, dtype=F64)
    return 5 - p.cos().sum() + count * (1 - p.cos()) - p.sin()


ROOTS = {
    "rosenbrock": (rosenbrock, torch.tensor([-1.2, 1.0], dtype=F64)),
    "trigonometric": (trigonometric, torch.full((5,), 0.2, dtype=F64)),
    "powell": (powell, torch.tensor([0.0, 1.0], dtype=F64)),
}


@pytest.mark.parametrize("linear_solver", [None, il.Exact()])
@pytest.mark.parametrize("name", ROOTS)
def test_roots_are_those_that_scipy_finds(name, linear_solver):
    fn, start = ROOTS[name]
    expected = scipy.optimize.root(lambda p: fn(torch.from_numpy(p)).numpy(), start.numpy())
    assert expected.success
    newton = il.NewtonRaphson(il.Armijo(), linear_solver=linear_solver)
    found = il.solve(il.Root(fn), start, newton, steps=80, tolerance=1e-14)
    assert fn(found.value).norm() < 1e-9
    if name != "trigonometric":  # which has several
        torch.testing.assert_close(found.value, torch.from_numpy(expected.x), rtol=1e-5, atol=1e-7)


def test_newton_converges_quadratically_where_the_full_step_alone_diverges():
    problem, far = il.Root(torch.arctan), torch.tensor([3.0], dtype=F64)
    with pytest.raises(il.SolveError):
        il.solve(problem, far, il.NewtonRaphson(), steps=20)
    searched = il.solve(problem, far, il.NewtonRaphson(il.Armijo()), steps=20, tolerance=1e-12)
    assert searched.value.abs() < 1e-12
    near = il.solve(problem, torch.tensor([0.4], dtype=F64), il.NewtonRaphson(), steps=4)
    norms = near.stats.gradient_norms
    assert (norms[1:] < norms[:-1] ** 3).all()  # arctan has no second derivative at its root


def test_minimisers_find_roots_too():
    for solver in (il.LevenbergMarquardt(), il.LBFGS(), il.GaussNewton()):
        found = il.solve(il.Root(rosenbrock), ROOTS["rosenbrock"][1], solver, steps=60, throw=False)
        torch.testing.assert_close(found.value, torch.ones(2, dtype=F64), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("solver", [None, il.Exact(), il.Neumann(1.0)])
@pytest.mark.parametrize("name", ["Anderson", "NewtonRaphson", "Broyden"])
def test_implicit_gradient_of_a_deep_equilibrium(name, solver):
    """Each sample is a problem; weights and inputs receive the gradient of the exact solution."""

    def equilibrium(weight, bias):
        return il.solve(
            il.FixedPoint(layer(weight, bias), (3,)),
            torch.zeros(3, 6, dtype=F64),
            ITERATIONS[name](),
            steps=6 if name == "NewtonRaphson" else 60,
            tolerance=1e-13,
            adjoint=il.Implicit(solver, steps=100),
        ).value

    inputs = (WEIGHT.clone().requires_grad_(), BIAS.clone().requires_grad_())
    assert torch.autograd.gradcheck(equilibrium, inputs, fast_mode=True)
    value = equilibrium(*inputs)
    # z = tanh(W z + b): (I − S W) dz = S db, where S holds the slopes of tanh.
    slopes = (1 - value**2).detach()
    (gradient,) = torch.autograd.grad(value[:, 0].sum(), inputs[1])
    for i in range(3):
        jacobian = EYE - slopes[i].unsqueeze(-1) * WEIGHT
        expected = slopes[i] * torch.linalg.solve(jacobian.mT, EYE[0])
        torch.testing.assert_close(gradient[i], expected, rtol=1e-8, atol=1e-9)


def test_second_derivatives_of_a_deep_equilibrium():
    def equilibrium(weight, bias):
        return il.solve(
            il.FixedPoint(layer(weight, bias)),
            torch.zeros(3, dtype=F64),
            il.Anderson(),
            steps=100,
            tolerance=1e-14,
            adjoint=il.Implicit(order=2),
        ).value

    inputs = (WEIGHT[:3, :3].clone().requires_grad_(), BIAS[0, :3].clone().requires_grad_())
    assert torch.autograd.gradgradcheck(equilibrium, inputs)


@pytest.mark.parametrize("name", ITERATIONS)
def test_a_start_at_the_solution_stays_with_finite_gradients(name):
    start = torch.zeros(2, 6, dtype=F64)
    scale = torch.tensor(0.3, dtype=F64, requires_grad=True)
    problem = il.FixedPoint(lambda z: scale * torch.tanh(z @ WEIGHT), (2,))
    for adjoint in (il.Unroll(), il.OneStep(), il.Implicit()):
        found = il.solve(problem, start, ITERATIONS[name](), steps=3, adjoint=adjoint)
        assert torch.equal(found.value, start)
        assert found.status is il.Status.CONVERGED
        (gradient,) = torch.autograd.grad(found.value.sum(), scale)
        assert gradient == 0


@pytest.mark.parametrize("name", ITERATIONS)
def test_problems_of_a_batch_do_not_see_each_other(name):
    bias = torch.cat([BIAS, 100 * BIAS[:1], 0 * BIAS[:1]])
    f, start = layer(WEIGHT, bias), torch.zeros(5, 6, dtype=F64)
    together = il.solve(il.FixedPoint(f, (5,)), start, ITERATIONS[name](), steps=8).value
    for i in range(5):
        problem = il.FixedPoint(layer(WEIGHT, bias[i]))
        alone = il.solve(problem, start[i], ITERATIONS[name](), steps=8).value
        torch.testing.assert_close(together[i], alone, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("name", ["damped", "Anderson", "Broyden"])
def test_two_solves_are_one(name):
    problem, start = il.FixedPoint(layer(WEIGHT, BIAS), (3,)), torch.zeros(3, 6, dtype=F64)
    solver = ITERATIONS[name]()
    whole = il.solve(problem, start, solver, steps=7).value
    first = il.solve(problem, start, solver, steps=4)
    rest = il.solve(problem, first.value, solver, steps=3, state=first.state).value
    torch.testing.assert_close(rest, whole, rtol=1e-12, atol=1e-12)
    if name == "Anderson":
        with pytest.raises(ValueError, match=r"state: does not fit this Anderson"):
            il.solve(problem, first.value, il.Anderson(1), state=first.state)


@pytest.mark.parametrize("name", ITERATIONS)
def test_nan_is_a_status(name):
    problem = il.FixedPoint(lambda z: torch.where(z.abs() < 10, 2 * z + 1, torch.nan), (2,))
    start = torch.tensor([[-1.0], [20.0]], dtype=F64)
    found = il.solve(problem, start, ITERATIONS[name](), steps=6, throw=False)
    assert found.statuses.tolist() == [il.Status.CONVERGED, il.Status.NOT_FINITE]


def test_an_equilibrium_without_a_gradient_is_an_error():
    # p = p + h: every p is a fixed point of h = 0, and none of another h.
    shift = torch.zeros(2, dtype=F64, requires_grad=True)
    found = il.solve(
        il.FixedPoint(lambda p: p + shift),
        torch.zeros(2, dtype=F64),
        il.Anderson(),
        adjoint=il.Implicit(),
    )
    with pytest.raises(il.LinearSolveError):
        found.value.sum().backward()


def test_empty_tensors_and_no_steps():
    init = {"a": torch.zeros(0), "b": torch.ones(2), "c": torch.tensor(1.0)}
    problem = il.FixedPoint(lambda p: trees.tree_map(torch.cos, p))
    for make in ITERATIONS.values():
        assert il.solve(problem, init, make(), steps=0).value is init
        found = il.solve(problem, init, make(), steps=100, tolerance=1e-5, adjoint=il.Detach())
        torch.testing.assert_close(found.value["b"], torch.full((2,), 0.739085))


def test_what_is_wrong_is_named():
    start = torch.zeros(2)
    with pytest.raises(ValueError, match=r"^fn: returned shape \(3,\), should be .* \(2,\)"):
        il.solve(il.FixedPoint(lambda p: torch.zeros(3)), start, il.Anderson())
    with pytest.raises(ValueError, match=r"^fn: its result: lacks \['a'\]"):
        il.solve(il.Root(lambda p: p["a"]), {"a": start}, il.Broyden())
    with pytest.raises(TypeError, match=r"^fn: returned float"):
        il.solve(il.Root(lambda p: 1.0), start, il.Broyden())
    with pytest.raises(TypeError, match=r"^fn: int"):
        il.FixedPoint(3)
    with pytest.raises(TypeError, match=r"^rate: Armijo .* NewtonRaphson\(Armijo\(\)\)"):
        il.Anderson(rate=il.Armijo())
    with pytest.raises(ValueError, match=r"^history: -1"):
        il.Anderson(-1)
    with pytest.raises(ValueError, match=r"^initial: 0"):
        il.Broyden(0)
    with pytest.raises(TypeError, match=r"solver: Anderson solves FixedPoint, not Root, which New"):
        il.solve(il.Root(torch.sin), start, il.Anderson())
    for wrong in (
        lambda: il.NewtonRaphson(linear_solver=il.ConjugateGradient()),
        lambda: il.solve(
            il.FixedPoint(torch.cos),
            start,
            il.Anderson(),
            adjoint=il.Implicit(il.ConjugateGradient()),
        ),
    ):
        with pytest.raises(TypeError, match=r"^linear_solver: .* not symmetric; GMRES\(\)"):
            wrong()
    with pytest.raises(TypeError, match=r"FirstOrder"):
        il.solve(il.FixedPoint(torch.cos), start, il.Anderson(), adjoint=il.FirstOrder())
