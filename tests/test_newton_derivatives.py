"""Steps that solve a linear system have the derivative of its solution, however it was found."""

import pytest
import torch

import innerloop as il


def normal(*shape, seed=0):
    make = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=make, dtype=torch.float64)


EYE = torch.eye(3, dtype=torch.float64)


def loss(h, p):
    return 0.5 * p @ h["matrix"].square() @ p + p.pow(3).sum() / 3 - h["right"] @ p


def residual(h, p):
    return h["matrix"] @ p + 0.3 * torch.tanh(p).square() - h["right"]


def newton(h, p):
    """The step by hand, with a dense direct solve."""
    slope, bend = torch.func.grad(loss, 1), torch.func.hessian(loss, 1)
    return p - torch.linalg.solve(bend(h, p), slope(h, p))


def gauss_newton(h, p):
    jacobian = torch.func.jacrev(residual, 1)(h, p)
    return p - torch.linalg.solve(jacobian.mT @ jacobian, jacobian.mT @ residual(h, p))


def of_loss(h):
    return il.Objective(lambda p: loss(h, p))


def of_squares(h):
    return il.LeastSquares(lambda p: residual(h, p))


def of_equations(h):
    return il.Root(lambda p: residual(h, p))


CASES = {
    "Newton": (newton, of_loss, il.Newton()),
    "Newton(Armijo())": (newton, of_loss, il.Newton(il.Armijo())),
    "Newton(MINRES())": (newton, of_loss, il.Newton(linear_solver=il.MINRES())),
    "TrustRegion": (newton, of_loss, il.TrustRegion()),
    "GaussNewton": (gauss_newton, of_squares, il.GaussNewton()),
    "GaussNewtonTrustRegion": (gauss_newton, of_squares, il.GaussNewtonTrustRegion()),
    "LevenbergMarquardt": (
        gauss_newton,
        of_squares,
        il.LevenbergMarquardt(0.0, linear_solver=il.ConjugateGradient()),
    ),
    "NewtonRaphson": (gauss_newton, of_equations, il.NewtonRaphson()),
}
POINTS = {
    # The gradient is exactly zero.
    "solution": ({"matrix": EYE + 0.2 * normal(3, 3).abs(), "right": 0 * EYE[0]}, 0 * EYE[0]),
    # One step of conjugate gradients solves the system.
    "equal curvature": ({"matrix": EYE, "right": 0.2 * normal(3, seed=1)}, 0 * EYE[0]),
}


def functions(name):
    """A probe of what one step reaches, and of what it should reach."""
    by_hand, make, solver = CASES[name]
    weight = normal(3, seed=4)

    def outer(reached):
        return (weight * reached + reached.square()).sum()

    return (
        lambda h, p: outer(il.solve(make(h), p, solver, steps=1).value),
        lambda h, p: outer(by_hand(h, p)),
    )


def symmetric(h):
    return h | {"matrix": 0.5 * (h["matrix"] + h["matrix"].mT)}


def first_and_second(function, at, along):
    """The gradient, and that of its product with a direction."""
    leaves = [leaf.clone().requires_grad_() for leaf in at]
    value = function({"matrix": leaves[0], "right": leaves[1]}, leaves[2])
    first = torch.autograd.grad(value, leaves, create_graph=True)
    inner = sum((a * b).sum() for a, b in zip(first, along, strict=True))
    return [*first, *torch.autograd.grad(inner, leaves)]


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("name", CASES)
def test_derivatives_are_those_of_a_dense_direct_solve(name, point):
    hyper, init = POINTS[point]
    hyper = symmetric(hyper)
    at = (hyper["matrix"], hyper["right"], init)
    along = [normal(*leaf.shape, seed=5 + i) for i, leaf in enumerate(at)]
    along[0] = along[0] + along[0].mT
    solved, by_hand = functions(name)
    expected = first_and_second(by_hand, at, along)
    for a, b in zip(first_and_second(solved, at, along), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)

    stacked = [torch.stack([leaf, leaf]) for leaf in at]
    of = lambda f: lambda *x: f({"matrix": x[0], "right": x[1]}, x[2])  # noqa: E731
    together = torch.func.vmap(torch.func.grad(of(solved), argnums=(0, 1, 2)))(*stacked)
    for a, b in zip(together, expected[:3], strict=True):
        torch.testing.assert_close(a[1], b, rtol=1e-9, atol=1e-9)

    forward = torch.func.jvp(of(solved), at, tuple(along))[1]
    reverse = sum((a * b).sum() for a, b in zip(expected[:3], along, strict=True))
    torch.testing.assert_close(forward, reverse, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "solver", [il.Newton(), il.TrustRegion(il.Steihaug(tolerance=0.0)), il.TrustRegion(il.Dogleg())]
)
def test_finite_differences_around_a_gradient_of_zero(solver):
    hyper, init = POINTS["solution"]

    def reached(right, init):
        return il.solve(of_loss({**symmetric(hyper), "right": right}), init, solver).value

    inputs = [leaf.clone().requires_grad_() for leaf in (hyper["right"], init)]
    assert torch.autograd.gradcheck(reached, inputs)


@pytest.mark.parametrize("solver", [il.Newton(linear_steps=1), il.TrustRegion(il.Steihaug(1))])
def test_a_system_not_solved_has_the_derivative_of_its_steps(solver):
    hyper = POINTS["solution"][0]
    matrix, init = (leaf.clone().requires_grad_() for leaf in (hyper["matrix"], 0.3 * normal(3)))

    def reached(matrix, init):
        return il.solve(of_loss({**hyper, "matrix": matrix}), init, solver).value

    assert torch.autograd.gradcheck(reached, (matrix, init))
