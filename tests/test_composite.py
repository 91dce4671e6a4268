"""Nonsmooth terms and constraints: proximal operators, their solvers, and implicit gradients."""

import pytest
import scipy.optimize
import torch
from pairs import normal

import innerloop as il

F64 = torch.float64
X = normal(20, 6)
Y = X @ torch.tensor([0.6, 0.0, -0.5, 0.1, 0.3, -0.02], dtype=F64) + 0.3 * normal(20, seed=1)
HESSIAN = X.mT @ X
LIPSCHITZ = torch.linalg.eigvalsh(HESSIAN)[-1].item()

TERMS = {
    "L1": il.L1(0.4),
    "GroupLasso": il.GroupLasso(0.7),
    "Box": il.Box(-0.3, 0.5),
    "NonNegative": il.NonNegative(),
    "Simplex": il.Simplex(),
    "Simplex(2, -2)": il.Simplex(2.0, dim=-2),
    "L2Ball": il.L2Ball(0.8),
    "L2Ball of matrices": il.L2Ball(0.8, dim=(-2, -1)),
}


def fit(p, x=X, y=Y):
    return 0.5 * (x @ p - y).square().sum()


def solved(term, loss=fit, init=None, adjoint=None):
    """The minimum, to about machine precision."""
    init = torch.zeros(6, dtype=F64) if init is None else init
    problem = il.Composite(loss, term, size=1 / LIPSCHITZ)
    solver = il.ProximalGradient(1.5 / LIPSCHITZ)
    return il.solve(problem, init, solver, steps=250, tolerance=1e-15, adjoint=adjoint).value


@pytest.mark.parametrize("name", TERMS)
def test_the_prox_is_where_its_objective_is_least(name):
    """Against a general solver of the definition: the term plus the squared distance."""
    term, size = TERMS[name], 0.6
    start = 1.5 * normal(2, 3, 4)
    found = term.prox(start, torch.tensor(size, dtype=F64), 1)

    def objective(point):
        return term.value(point, 1) + (point - start).square().sum((1, 2)) / (2 * size)

    least = objective(found)
    make = torch.Generator().manual_seed(0)
    for scale in (1e-4, 1e-2, 1.0):
        for _ in range(100):
            moved = found + scale * torch.randn(found.shape, generator=make, dtype=F64)
            moved = term.project(moved, 1) if isinstance(term, il.ConvexSet) else moved
            assert (objective(moved) >= least - 1e-12).all()
    if isinstance(term, il.ConvexSet):
        torch.testing.assert_close(term.project(found, 1), found)


@pytest.mark.parametrize("name", TERMS)
def test_derivative_of_the_prox(name):
    start = (1.5 * normal(2, 3, 4, seed=3)).requires_grad_()
    size = torch.tensor([0.5, 0.6], dtype=F64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda p, s: TERMS[name].prox(p, s, 1), (start, size))
    jacobian = torch.autograd.functional.jacobian(lambda p: TERMS[name].prox(p, size, 1), start)
    jacobian = jacobian.reshape(24, 24)
    torch.testing.assert_close(jacobian, jacobian.mT)


def test_projections_onto_the_simplex_are_those_of_the_equation_for_their_threshold():
    start = 2 * normal(5, 7)
    found = il.Simplex(1.3).project(start, 1)
    torch.testing.assert_close(found.sum(-1), torch.full((5,), 1.3, dtype=F64))
    for row, projected in zip(start, found, strict=True):
        threshold = scipy.optimize.brentq(
            lambda t, row=row: (row - t).clamp(min=0).sum().item() - 1.3, -10, 10, xtol=1e-15
        )
        torch.testing.assert_close(projected, (row - threshold).clamp(min=0))


@pytest.mark.parametrize("name", TERMS)
def test_what_lies_in_a_set_stays_and_extreme_values_are_finite(name):
    size = torch.tensor(1.0)
    for scale in (1e-30, 1e20, 1e30):
        found = TERMS[name].prox(scale * normal(3, 4).float(), size, 0)
        assert found.isfinite().all()
    assert TERMS[name].prox(torch.full((3, 4), torch.nan), size, 0).isnan().any()
    if name == "L2Ball":
        far = il.L2Ball(2.0).project(torch.tensor([3e25, 4e25]), 0)
        torch.testing.assert_close(far, torch.tensor([1.2, 1.6]))


SOLVERS = {
    "ProximalGradient": lambda: il.ProximalGradient(1 / LIPSCHITZ),
    "backtracking": lambda: il.ProximalGradient(il.Backtracking()),
    "FISTA": lambda: il.FISTA(1 / LIPSCHITZ),
    "FISTA, backtracking": lambda: il.FISTA(il.Backtracking()),
}


@pytest.mark.parametrize("solver", SOLVERS)
def test_bounds_as_scipy_keeps_them(solver):
    expected = scipy.optimize.lsq_linear(X.numpy(), Y.numpy(), (-0.1, 0.2), tol=1e-14)
    problem = il.Composite(fit, il.Box(-0.1, 0.2))
    found = il.solve(problem, torch.zeros(6, dtype=F64), SOLVERS[solver](), steps=300)
    torch.testing.assert_close(found.value, torch.from_numpy(expected.x), rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(found.stats.losses[-1].item(), expected.cost)


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_lasso_meets_its_conditions(solver):
    weight = 4.0
    problem = il.Composite(fit, il.L1(weight))
    found = il.solve(
        problem, torch.zeros(6, dtype=F64), SOLVERS[solver](), steps=1000, tolerance=1e-9
    )
    assert found.status is il.Status.CONVERGED
    gradient, kept = X.mT @ (X @ found.value - Y), found.value != 0
    assert 0 < kept.sum() < 6
    torch.testing.assert_close(gradient[kept], -weight * found.value[kept].sign())
    assert (gradient[~kept].abs() <= weight).all()


@pytest.mark.parametrize("solver", [*SOLVERS, "MirrorDescent"])
def test_the_simplex_as_scipy_keeps_it(solver):
    expected = scipy.optimize.minimize(
        lambda p: fit(torch.from_numpy(p)).item(),
        torch.full((6,), 1 / 6).numpy(),
        jac=lambda p: (X.mT @ (X @ torch.from_numpy(p) - Y)).numpy(),
        method="SLSQP",
        bounds=[(0, 1)] * 6,
        constraints={"type": "eq", "fun": lambda p: p.sum() - 1},
        options={"ftol": 1e-12, "maxiter": 200},
    )
    assert expected.success
    made = SOLVERS.get(solver, lambda: il.MirrorDescent(0.1))()
    found = il.solve(
        il.Composite(fit, il.Simplex()), torch.full((6,), 1 / 6, dtype=F64), made, steps=600
    )
    torch.testing.assert_close(found.value, torch.from_numpy(expected.x), rtol=1e-5, atol=1e-6)


def test_the_formula_of_fista_and_its_bound():
    """Beck and Teboulle, eq. 4.1 to 4.3 and theorem 4.4."""
    term = il.L1(1.0)
    problem, start = il.Composite(fit, term), normal(6, seed=3)
    minimum = solved(term)
    least = problem.loss(minimum)
    x = y = start
    t, size = 1.0, torch.tensor(1 / LIPSCHITZ, dtype=F64)
    for step in range(1, 30):
        new = term.prox(y - size * (X.mT @ (X @ y - Y)), size, 0)
        following = (1 + (1 + 4 * t * t) ** 0.5) / 2
        y = new + (t - 1) / following * (new - x)
        x, t = new, following
        found = il.solve(problem, start, il.FISTA(1 / LIPSCHITZ), steps=step).value
        torch.testing.assert_close(found, x)
        bound = 2 * LIPSCHITZ * (start - minimum).square().sum() / (step + 1) ** 2
        assert problem.loss(found) - least <= bound


def test_the_formula_of_mirror_descent():
    start, rate = normal(2, 3, 4).softmax(-1), 0.3
    target = normal(2, 3, 4, seed=1)
    loss = il.Objective(lambda p: 0.5 * (p - target).square().sum((1, 2)), (2,))
    total = torch.tensor([1.0, 2.0], dtype=F64)
    found = il.solve(
        il.Composite(loss, il.Simplex(total)), start, il.MirrorDescent(rate), steps=1
    ).value
    raw = start * torch.exp(-rate * (start - target))
    expected = total[:, None, None] * raw / raw.sum(-1, keepdim=True)
    torch.testing.assert_close(found, expected)


def test_backtracking_keeps_its_bound_for_each_problem():
    scales = torch.tensor([1.0, 30.0, 1e4], dtype=F64)
    smooth = il.Objective(lambda p: scales * torch.stack([fit(row) for row in p]) / LIPSCHITZ, (3,))
    problem = il.Composite(smooth, il.L1(0.01 * scales))
    init = torch.zeros(3, 6, dtype=F64)
    found = il.solve(problem, init, il.ProximalGradient(il.Backtracking(4.0)), steps=30)
    sizes = found.stats.step_sizes
    assert (sizes.diff(dim=0) <= 0).all()
    # Once below 1 / L, a size is not halved again.
    assert (sizes[-1] * scales > 0.5).all()
    assert (found.stats.losses.diff(dim=0) <= 1e-9 * scales).all()
    for i in range(3):
        alone = il.Composite(
            lambda p, i=i: scales[i] * fit(p) / LIPSCHITZ, il.L1(0.01 * scales[i].item())
        )
        value = il.solve(alone, init[i], il.ProximalGradient(il.Backtracking(4.0)), steps=30).value
        torch.testing.assert_close(found.value[i], value)


def test_derivative_of_the_lasso_is_that_on_its_support():
    weight = torch.tensor(4.0, dtype=F64, requires_grad=True)
    targets = Y.clone().requires_grad_()
    value = solved(il.L1(weight), lambda p: fit(p, y=targets), adjoint=il.Implicit())
    kept = (value != 0).detach()
    inverse = torch.linalg.inv(HESSIAN[kept][:, kept])
    probe = normal(6, seed=5)
    gradients = torch.autograd.grad(value @ probe, (weight, targets))
    by_weight = -inverse @ value[kept].detach().sign()
    torch.testing.assert_close(gradients[0], probe[kept] @ by_weight)
    torch.testing.assert_close(gradients[1], X[:, kept] @ inverse @ probe[kept])


def test_derivative_of_a_bounded_minimum_is_that_of_its_free_parameters():
    upper = torch.tensor(0.2, dtype=F64, requires_grad=True)
    value = solved(il.Box(-0.1, upper), adjoint=il.Implicit())
    free = ((value > -0.1) & (value < upper)).detach()
    at_upper = (value == upper).detach()
    assert free.any()
    assert at_upper.any()
    # The free ones follow those that move with the bound: H_FF dp_F = -H_FU 1.
    inverse = torch.linalg.inv(HESSIAN[free][:, free])
    expected = torch.zeros(6, dtype=F64)
    expected[at_upper] = 1
    expected[free] = -inverse @ HESSIAN[free][:, at_upper].sum(-1)
    probe = normal(6, seed=5)
    (gradient,) = torch.autograd.grad(value @ probe, upper)
    torch.testing.assert_close(gradient, probe @ expected)


def test_derivative_on_the_simplex_is_that_of_its_face():
    targets = Y.clone().requires_grad_()
    start = torch.full((6,), 1 / 6, dtype=F64)
    value = solved(il.Simplex(), lambda p: fit(p, y=targets), start, il.Implicit())
    face = (value > 0).detach()
    count = int(face.sum())
    assert 1 < count < 6
    # H dp + 1 dλ = X' dy and 1' dp = 0 on the face.
    ones = torch.ones(count, 1, dtype=F64)
    upper = torch.cat([HESSIAN[face][:, face], ones], -1)
    kkt = torch.cat([upper, torch.cat([ones.mT, torch.zeros(1, 1, dtype=F64)], -1)])
    solution = torch.linalg.solve(kkt, torch.cat([X[:, face].mT, torch.zeros(1, 20, dtype=F64)]))
    probe = normal(6, seed=5)
    (gradient,) = torch.autograd.grad(value @ probe, targets)
    torch.testing.assert_close(gradient, probe[face] @ solution[:-1])


@pytest.mark.parametrize("name", ["L1", "GroupLasso", "Box", "Simplex", "L2Ball"])
def test_implicit_gradients_of_any_size_against_finite_differences(name):
    term = TERMS[name]

    def value(features, targets, size, linear_solver=None):
        loss = il.Objective(lambda p: 0.5 * (p @ features - targets).square().sum((1, 2)), (2,))
        return il.solve(
            il.Composite(loss, term, size=size),
            0.25 + torch.zeros(2, 2, 4, dtype=F64),
            il.ProximalGradient(0.3),
            steps=150,
            tolerance=1e-14,
            adjoint=il.Implicit(linear_solver),
        ).value

    inputs = (
        (torch.eye(4, 5, dtype=F64) + 0.3 * normal(4, 5)).requires_grad_(),
        normal(2, 2, 5).requires_grad_(),
    )
    found = [
        torch.autograd.grad(value(*inputs, size, solver).square().sum(), inputs)
        for size in (0.03, 0.3, torch.tensor([0.1, 1.0]))
        for solver in (None, il.Exact())
    ]
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=1e-6, atol=1e-8)
    assert torch.autograd.gradcheck(
        lambda *at: value(*at, 0.3), inputs, fast_mode=True, atol=1e-5, rtol=1e-4
    )


def test_second_derivatives_of_a_composite():
    def value(targets, weight):
        return solved(
            il.L1(weight.exp()),
            lambda p: fit(p, y=targets) + 0.1 * (p**4).sum(),
            adjoint=il.Implicit(order=2),
        )

    inputs = Y.clone().requires_grad_(), torch.tensor(1.0, dtype=F64, requires_grad=True)
    assert torch.autograd.gradgradcheck(value, inputs, fast_mode=True)


def test_each_tensor_has_its_term_and_its_rate():
    init = {"weight": torch.zeros(6, dtype=F64), "bias": torch.zeros(1, dtype=F64)}
    problem = il.Composite(
        lambda p: 0.5 * (X @ p["weight"] + p["bias"] - Y - 3).square().sum(),
        {"weight": il.L1(5.0), "bias": None},
    )
    rates = {"bias": 0.04, "weight": 1 / LIPSCHITZ}
    found = il.solve(problem, init, il.ProximalGradient(rates), steps=600, adjoint=il.Detach())
    alone = il.solve(problem, init, il.ProximalGradient(0.02), steps=900, adjoint=il.Detach())
    torch.testing.assert_close(found.value, alone.value)
    residual = X @ found.value["weight"] + found.value["bias"] - Y - 3
    torch.testing.assert_close(residual.sum().abs() + 1, torch.ones((), dtype=F64))


def test_rates_are_learned():
    rates = il.LearningRates(torch.zeros(6, dtype=F64), per="tensor", init=0.02, per_step=3)
    problem = il.Composite(fit, il.L1(1.0))
    for solver in (il.ProximalGradient(rates), il.FISTA(rates)):
        found = il.solve(problem, torch.zeros(6, dtype=F64), solver, steps=3).value
        (gradient,) = torch.autograd.grad(fit(found), list(rates.parameters()))
        assert (gradient != 0).all()


@pytest.mark.parametrize("solver", SOLVERS)
def test_two_solves_are_one(solver):
    problem, init = il.Composite(fit, il.L1(1.0)), normal(6, seed=3)
    made = SOLVERS[solver]()
    whole = il.solve(problem, init, made, steps=7)
    first = il.solve(problem, init, made, steps=4)
    rest = il.solve(problem, first.value, made, steps=3, state=first.state)
    assert torch.equal(rest.value, whole.value)
    searching = isinstance(made.rate, il.Backtracking)
    other = type(made)(0.1 if searching else il.Backtracking())
    with pytest.raises(ValueError, match=r"state: does not fit this"):
        il.solve(problem, first.value, other, state=first.state)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("solver", SOLVERS)
def test_a_start_at_the_minimum_stays(solver, dtype):
    problem = il.Composite(lambda p: 0.5 * (p - 1).square().sum(), il.Box(upper=0.5))
    init = torch.full((3,), 0.5, dtype=dtype)
    found = il.solve(problem, init, SOLVERS[solver](), steps=3)
    assert torch.equal(found.value, init)
    assert found.status is il.Status.CONVERGED


@pytest.mark.parametrize("solver", [*SOLVERS, "MirrorDescent"])
def test_nan_is_a_status(solver):
    made = SOLVERS.get(solver, lambda: il.MirrorDescent(0.1))()
    problem = il.Composite(
        il.Objective(lambda p: (torch.tensor([1.0, torch.nan])[:, None] * p).sum(-1), (2,)),
        il.Simplex(),
    )
    found = il.solve(problem, torch.full((2, 3), 1 / 3), made, steps=3, throw=False)
    assert found.statuses[0] < il.Status.BREAKDOWN
    assert found.statuses[1] == il.Status.NOT_FINITE


def test_mirror_descent_nears_the_boundary_and_says_where_it_cannot_start():
    problem = il.Composite(lambda p: (p * torch.arange(3)).sum(), il.Simplex())
    init = torch.full((3,), 1 / 3)
    found = il.solve(problem, init, il.MirrorDescent(50.0), steps=20)
    torch.testing.assert_close(found.value, torch.tensor([1.0, 0.0, 0.0]))
    again = il.solve(problem, found.value, il.MirrorDescent(1.0), steps=2)
    assert torch.equal(again.value, found.value)
    for bad in (torch.zeros(3), torch.tensor([1.0, -1.0, 1.0])):
        with pytest.raises(ValueError, match=r"^init: has negative entries, or a vector of zeros"):
            il.solve(problem, bad, il.MirrorDescent())
    with pytest.raises(TypeError, match=r"^solver: MirrorDescent .* not L1; ProximalGradient"):
        il.solve(il.Composite(fit, il.L1(1.0)), torch.ones(6), il.MirrorDescent())


def test_what_is_wrong_is_named():
    init = torch.zeros(2, 3)
    smooth = il.Objective(lambda p: p.square().sum((1,)), (2,))

    def refused(kind, pattern, make, init=init):
        with pytest.raises(kind, match=pattern):
            il.solve(make(), init, il.ProximalGradient())

    composite = il.Composite
    refused(TypeError, r"^problem: Composite", lambda: composite(composite(fit, il.L1(1.0)), None))
    refused(TypeError, r"^term: float", lambda: composite(smooth, 0.1))
    refused(TypeError, r"^term: the class L1", lambda: composite(smooth, il.L1))
    refused(ValueError, r"^term: lacks", lambda: composite(smooth, {"a": il.L1(1.0)}))
    refused(ValueError, r"^size: 0", lambda: composite(smooth, il.L1(1.0), size=0))
    refused(ValueError, r"^weight: -1", lambda: composite(smooth, il.L1(-1.0)))
    refused(TypeError, r"^weight: str", lambda: composite(smooth, il.L1("a")))
    refused(ValueError, r"^weight: shape \(4,\)", lambda: composite(smooth, il.L1(torch.ones(4))))
    refused(
        ValueError,
        r"^weight: shape \(3,\)",
        lambda: composite(smooth, il.GroupLasso(torch.ones(3))),
    )
    refused(ValueError, r"^lower: 1", lambda: composite(smooth, il.Box(1.0, 0.0)))
    refused(ValueError, r"^upper: nan", lambda: composite(smooth, il.Box(upper=float("nan"))))
    refused(ValueError, r"^total: 0", lambda: composite(smooth, il.Simplex(0.0)))
    refused(ValueError, r"^dim: 1", lambda: composite(smooth, il.Simplex(dim=1)))
    refused(ValueError, r"^dim: -2", lambda: composite(smooth, il.L2Ball(dim=-2)))
    with pytest.raises(ValueError, match=r"^init\['a'\]: shape \(2, 0\), should not be empty"):
        il.solve(
            composite(il.Objective(lambda p: p["b"].square().sum(1), (2,)), il.Simplex()),
            {"a": torch.zeros(2, 0), "b": init},
            il.ProximalGradient(),
        )
    with pytest.raises(TypeError, match=r"^solver: Newton solves .*not Composite, which Proximal"):
        il.solve(composite(smooth, il.L1(1.0)), init, il.Newton())
    with pytest.raises(TypeError, match=r"^rate: Armijo .* Backtracking\(\)"):
        il.ProximalGradient(il.Armijo())
    with pytest.raises(ValueError, match=r"^rate: shape \(3,\)"):
        il.solve(composite(smooth, il.L1(1.0)), init, il.FISTA(torch.ones(3)))
    for name in ("initial", "shrink", "trials"):
        with pytest.raises(ValueError, match=f"^{name}: 0"):
            il.Backtracking(**{name: 0})
