"""Steps in dual coordinates, predictions handed on, and the maps that both are made of."""

import pytest
import torch
from test_problems import problem_tensors
from torch.nn import functional as F

import innerloop as il
from innerloop.maps.convolution import (
    Convolve,
    Correlate,
    CorrelateWeighed,
    Spread,
    channels_last,
)
from innerloop.maps.gram import patch_gram
from innerloop.maps.products import multiply, multiply_transposed
from innerloop.problems.conv import ConvLeastSquares
from innerloop.solvers.coordinates import DualCoordinates, cheapest

STEPS = 6
WEIGHTINGS = {
    "none": lambda w: None,
    "frame": lambda w: w[..., 0, 0, 0],
    "shared": lambda w: w[..., :1, :, :],
    "full": lambda w: w,
}


class Primal(ConvLeastSquares):
    """The problem without its dual."""

    def dual_gram(self, like, steps):
        return None


def few_pixels(batch=(), frames=2, outputs=3, kernel=3, size=(3, 4)):
    """A problem of fewer pixels than channels, for which the dual is the cheaper."""
    tensors = problem_tensors(batch, frames, 60, outputs, size, kernel)
    return [tensor / 8 for tensor in tensors]


def is_dual(problem, init):
    return isinstance(cheapest(problem, init, STEPS), DualCoordinates)


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("outputs", [3, 9])
@pytest.mark.parametrize("frames", [1, 2])
@pytest.mark.parametrize("size", [(6, 7), (1, 2)])
def test_the_maps_of_a_convolution_are_those_of_autograd(kernel, outputs, frames, size):
    x, y, w, tau = problem_tensors((2,), frames, outputs=outputs, size=size, kernel=kernel)
    x.requires_grad_()
    tau.requires_grad_()
    expected = torch.stack(
        [F.conv2d(a, t, padding=kernel // 2) for a, t in zip(x, tau, strict=True)]
    )
    dx, dtau = torch.autograd.grad((expected * y).sum(), (x, tau))
    close = {"rtol": 1e-12, "atol": 1e-12}
    for features in (x, channels_last(x)):
        torch.testing.assert_close(Convolve.apply(features, tau), expected, **close)
        torch.testing.assert_close(Correlate.apply(features, y, kernel), dtau, **close)
        for weights in (w, w[..., :1, :1, :1]):
            weighed = CorrelateWeighed.apply(features, weights, y, kernel)
            plain = Correlate.apply(features, weights**2 * y, kernel)
            torch.testing.assert_close(weighed, plain, **close)
    torch.testing.assert_close(Spread.apply(y, tau), dx, **close)
    torch.testing.assert_close(multiply(x, tau), expected, **close)
    torch.testing.assert_close(multiply_transposed(x, y, kernel), dtau, **close)


@pytest.mark.parametrize("maps", [Convolve, Correlate, CorrelateWeighed, Spread])
@pytest.mark.parametrize("frames", [1, 2])
def test_the_maps_have_right_derivatives_of_two_orders(maps, frames):
    x, y, w, tau = problem_tensors(frames=frames, channels=2, outputs=2, size=(2, 3))
    arguments = {
        Convolve: (x, tau),
        Correlate: (x, y),
        CorrelateWeighed: (x, w, y),
        Spread: (y, tau),
    }[maps]
    arguments = [argument.requires_grad_() for argument in arguments]
    more = (3,) if maps in (Correlate, CorrelateWeighed) else ()
    assert torch.autograd.gradcheck(lambda *a: maps.apply(*a, *more), arguments)
    assert torch.autograd.gradgradcheck(lambda *a: maps.apply(*a, *more), arguments)


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("frames", [1, 2])
@pytest.mark.parametrize("size", [(3, 4), (1, 4), (2, 1), (9, 2)])
def test_the_gram_matrix_is_that_of_the_patches(kernel, frames, size):
    x, _, _, _ = problem_tensors(batch=(2,), frames=frames, size=size)
    patches = F.unfold(x.flatten(0, 1), kernel, padding=kernel // 2)
    patches = patches.reshape(2, frames, -1, *size).flatten(-2).movedim(1, 2).flatten(-2)
    torch.testing.assert_close(patch_gram(x, kernel), patches.mT @ patches)


def test_the_gram_matrix_has_right_derivatives_of_two_orders():
    x = problem_tensors(channels=2, size=(2, 3))[0].requires_grad_()
    assert torch.autograd.gradcheck(lambda x: patch_gram(x, 3), x)
    assert torch.autograd.gradgradcheck(lambda x: patch_gram(x, 3), x)


@pytest.mark.parametrize("batch", [(), (2,)])
@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("floor", [0.0, 1.0])
def test_dual_steps_are_the_primal_ones(batch, frames, kernel, weighting, floor):
    x, e, w, init = few_pixels(batch, frames, kernel=kernel)
    decay = torch.tensor([0.2, 0.7], dtype=x.dtype) if batch else 0.3
    arguments = (x, e, WEIGHTINGS[weighting](8 * w), decay)
    problem, solver = ConvLeastSquares(*arguments), il.SteepestDescent(floor)
    if kernel > 1:
        assert is_dual(problem, init)
    dual = il.solve(problem, init, solver, steps=STEPS)
    primal = il.solve(Primal(*arguments), init, solver, steps=STEPS)
    close = {"rtol": 1e-10, "atol": 1e-10}
    torch.testing.assert_close(dual.value, primal.value, **close)
    torch.testing.assert_close(dual.state.inner, primal.state.inner, **close)
    for name in ("losses", "gradient_norms", "step_sizes"):
        found, expected = (getattr(solution.stats, name) for solution in (dual, primal))
        torch.testing.assert_close(found, expected, **close)


def test_no_problems_at_all_in_the_dual():
    x, e, w, init = (tensor[:0] for tensor in few_pixels(batch=(2,)))
    problem = ConvLeastSquares(x, e, w)
    assert is_dual(problem, init)
    solution = il.solve(problem, init, il.SteepestDescent(), steps=2)
    assert solution.value.shape == init.shape
    assert solution.state.inner.shape == e.shape


def test_dual_steps_reach_the_solution_and_stay():
    x, e, w, init = few_pixels()
    problem = ConvLeastSquares(x, e, w, 1.0)
    solution = il.solve(problem, init, il.SteepestDescent(), steps=400, tolerance=1e-13)
    assert solution.status is il.Status.CONVERGED
    exact = il.solve(problem, init, il.Ridge()).value
    torch.testing.assert_close(solution.value, exact, rtol=1e-11, atol=1e-11)
    single = [tensor.float() for tensor in (x, e, w, init)]
    rested = il.solve(ConvLeastSquares(*single[:3], 1.0), single[3], il.SteepestDescent(), steps=99)
    torch.testing.assert_close(rested.value, exact.float(), rtol=1e-5, atol=1e-6)


def test_a_zero_problem_keeps_its_zero_start_in_the_dual():
    x, e, _, init = few_pixels()
    problem = ConvLeastSquares(x, torch.zeros_like(e), regularization=0.1)
    assert is_dual(problem, init)
    solution = il.solve(problem, torch.zeros_like(init), il.SteepestDescent(), steps=2)
    assert not solution.value.any()
    assert solution.status is il.Status.CONVERGED


@pytest.mark.parametrize("outputs", [2, 8])
@pytest.mark.parametrize("size", [(2, 2), (6, 7)])
def test_gradients_are_right_by_convolution_by_product_and_in_the_dual(outputs, size):
    x, e, w, init = problem_tensors((), 1, 2, outputs, size)
    decay = torch.tensor(0.8, dtype=x.dtype)
    assert is_dual(ConvLeastSquares(x, e, w, decay), init) is (size == (2, 2))
    leaves = [leaf.requires_grad_() for leaf in (x, e, w, decay, init)]

    def outer(x, e, w, decay, init):
        problem = ConvLeastSquares(x, e, w, decay)
        return il.solve(problem, init, il.SteepestDescent(), steps=2).value.sin().sum()

    assert torch.autograd.gradcheck(outer, leaves, fast_mode=True)
    assert torch.autograd.gradgradcheck(outer, leaves, fast_mode=True)


@pytest.mark.parametrize("outputs", [2, 8])
@pytest.mark.parametrize("size", [(2, 2), (6, 7)])
def test_vmap_solves_what_a_batch_solves(outputs, size):
    x, e, w, init = problem_tensors((3,), 1, 2, outputs, size)

    def outer(x, e, w, init):
        return il.solve(ConvLeastSquares(x, e, w, 0.5), init, il.SteepestDescent(), steps=3).value

    together = outer(x, e, w, init)
    torch.testing.assert_close(torch.func.vmap(outer)(x, e, w, init), together)
    gradient = torch.func.grad(lambda *a: outer(*a).sin().sum(), argnums=(0, 1, 2, 3))
    expected = gradient(x, e, w, init)
    for found, one in zip(torch.func.vmap(gradient)(x, e, w, init), expected, strict=True):
        torch.testing.assert_close(found, one)


@pytest.mark.parametrize("outputs", [2, 8])
@pytest.mark.parametrize("size", [(2, 2), (6, 7)])
@pytest.mark.parametrize("adjoint", [il.Unroll(), il.Detach()])
def test_a_solve_goes_on_from_its_state(monkeypatch, outputs, size, adjoint):
    x, e, w, init = problem_tensors((2,), 1, 2, outputs, size)
    problem, solver = ConvLeastSquares(x, e, w, 0.5), il.SteepestDescent()
    first = il.solve(problem, init, solver, steps=2, adjoint=adjoint)
    torch.testing.assert_close(first.state.inner, problem.predict(first.value))
    whole = il.solve(problem, init, solver, steps=5, adjoint=adjoint)
    calls = []
    predict = ConvLeastSquares.predict
    monkeypatch.setattr(ConvLeastSquares, "predict", lambda *a: (calls.append(1), predict(*a))[1])
    rest = il.solve(problem, first.value, solver, steps=3, adjoint=adjoint, state=first.state)
    assert len(calls) == (0 if is_dual(problem, init) else 3)
    torch.testing.assert_close(rest.value, whole.value, rtol=1e-12, atol=1e-12)


def test_a_linear_layer_goes_on_from_its_state():
    x, e = torch.randn(2, 9, 4).double(), torch.randn(2, 9, 3).double()
    problem, init = il.LinearLeastSquares(x, e, regularization=0.1), torch.ones(2, 3, 4).double()
    first = il.solve(problem, init, il.SteepestDescent(), steps=2)
    torch.testing.assert_close(first.state.inner, problem.predict(first.value))
    assert il.solve(problem, init, il.ConjugateGradient()).state is None


def test_a_state_that_does_not_fit_is_refused():
    x, e, w, init = problem_tensors()
    problem = ConvLeastSquares(x, e, w)
    solver = il.SteepestDescent()
    for wrong in (e[:1], e + 1):
        with pytest.raises(ValueError, match=r"^state: its prediction is .* should be"):
            il.solve(problem, init, solver, state=il.SolverState(solver, problem, init, wrong))


def test_steps_in_single_precision_are_those_in_double():
    make = torch.Generator().manual_seed(0)
    sizes = [(2, 1, 300, 33, 34), (2, 1, 9, 33, 34), (2, 9, 300, 3, 3)]
    features, targets, init = (torch.randn(size, generator=make) for size in sizes)
    features, init = features / 34, init / 34

    def solved(*tensors):
        problem = ConvLeastSquares(*tensors[:2], regularization=0.1)
        assert isinstance(cheapest(problem, tensors[2], 60), DualCoordinates)
        solver = il.SteepestDescent()
        return il.solve(problem, tensors[2], solver, steps=60, adjoint=il.Detach()).value

    single = solved(features, targets, init)
    double = solved(features.double(), targets.double(), init.double())
    assert (single - double).norm() < 1e-5 * double.norm()
