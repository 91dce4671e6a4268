"""The loop, its solvers and adjoints on convolutional least squares."""

import numpy as np
import pytest
import torch
from shared import SHARED, needs_shared
from test_problems import problem_tensors

import innerloop as il

SOLVERS = [
    (il.SteepestDescent(), 4),
    (il.ConjugateGradient(), 4),
    (il.Ridge("primal"), 1),
    (il.Ridge("dual"), 1),
]
RELEASED = il.SteepestDescent(floor=1e-8)
GOLDENS = SHARED / "reference" / "goldens" / "solver.npz"


def golden_case(case, dtype):
    """Problem tensors of a case, batch axis first, and a reader of its golden outputs."""
    arrays = np.load(GOLDENS)
    precision = {torch.float64: "f64", torch.float32: "f32"}[dtype]
    prefix = case.split(".")[0]

    def tensor(key):
        return torch.from_numpy(arrays[key])

    inputs = {
        "feat": tensor(f"{prefix}.feat").to(dtype).transpose(0, 1).clone(),
        "label": tensor(f"{prefix}.label").to(dtype).transpose(0, 1).clone(),
        "w0": tensor(f"{prefix}.w0").to(dtype),
        "filter_reg": torch.tensor([0.05], dtype=torch.float32).to(dtype),
    }
    if f"{prefix}.sw" in arrays:
        inputs["sw"] = tensor(f"{prefix}.sw").to(dtype).transpose(0, 1).clone()
    for value in inputs.values():
        value.requires_grad_()
    probe = tensor(f"{prefix}.probe").to(dtype)
    return inputs, probe, lambda key: tensor(f"{case}.{precision}.{key}")


def golden_problem(inputs):
    frames = inputs["feat"].shape[1]
    weights = inputs.get("sw")
    if weights is None:
        weights = inputs["feat"].new_full(inputs["feat"].shape[:2], (1 / frames) ** 0.5)
    return il.ConvLeastSquares(
        inputs["feat"], inputs["label"], weights, inputs["filter_reg"].square().squeeze(0)
    )


@needs_shared
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("case", ["a", "b", "d", "a.det2"])
def test_steepest_descent_golden(case, dtype):
    inputs, probe, golden = golden_case(case, dtype)
    problem = golden_problem(inputs)
    iterates, losses = [inputs["w0"]], []
    for step in range(5):
        start = iterates[-1]
        if case == "a.det2" and step in (2, 4):
            start = start.detach()
        solution = il.solve(problem, start, RELEASED)
        losses.append(solution.stats.losses[0])
        iterates.append(solution.value)
    losses.append(problem.loss(iterates[-1]).detach())

    tolerance = {torch.float64: 1e-12, torch.float32: 5e-6}[dtype]
    expected = golden("iterates")
    difference = (torch.stack(iterates).detach() - expected).abs().max()
    scale = 1.0 if dtype == torch.float64 else expected.abs().max()
    assert difference <= tolerance * scale

    residuals = problem.targets.numel() + inputs["w0"].numel()
    normalised = 2 * torch.stack(losses).sum(-1) / residuals
    torch.testing.assert_close(normalised, golden("losses"), rtol=tolerance, atol=tolerance)

    outer = (iterates[-1] * probe).sum() + 0.5 * sum(i.square().sum() for i in iterates)
    names = [n for n in inputs if not (case == "a.det2" and n == "w0")]
    gradients = torch.autograd.grad(outer, [inputs[n] for n in names])
    for name, gradient in zip(names, gradients, strict=True):
        if name in ("feat", "label", "sw"):
            gradient = gradient.transpose(0, 1)
        expected = golden(f"grad.{name}")
        error = (gradient - expected).abs().max() / expected.abs().max()
        assert error <= {torch.float64: 1e-9, torch.float32: 5e-6}[dtype], (name, error)


@needs_shared
def test_steepest_descent_golden_in_one_solve():
    inputs, _, golden = golden_case("b", torch.float64)
    solution = il.solve(golden_problem(inputs), inputs["w0"], RELEASED, steps=5)
    assert (solution.value - golden("iterates")[-1]).abs().max() <= 1e-12
    assert solution.status is il.Status.STEPS_USED_UP


@needs_shared
def test_steepest_descent_golden_zero_and_clamp():
    arrays = {k: torch.from_numpy(v) for k, v in np.load(GOLDENS).items()}
    features, label = arrays["z.feat"].transpose(0, 1), arrays["z.label"].transpose(0, 1)
    init = torch.zeros(1, 2, 4, 3, 3)
    reg = torch.tensor(0.05).square()
    still = il.solve(
        il.ConvLeastSquares(features, torch.zeros_like(label), regularization=reg),
        init,
        RELEASED,
        steps=2,
    )
    assert torch.equal(still.value, arrays["zero.iterates"][-1])
    assert still.status is il.Status.CONVERGED

    problem = il.ConvLeastSquares(1e-4 * features, label, regularization=reg)
    for steps in (1, 2):
        value = il.solve(problem, init, RELEASED, steps=steps).value
        expected = arrays["clamp.iterates"][steps]
        assert (value - expected).abs().max() <= 1e-5 * expected.abs().max()


def dense_solution(features, targets, weights, regularization, kernel):
    """Assemble the least-squares matrix column by column and solve it."""
    outputs, channels = targets.shape[-3], features.shape[-3]
    count = outputs * channels * kernel**2
    problem = il.ConvLeastSquares(features, targets)
    columns = [
        (weights * problem.predict(unit.reshape(outputs, channels, kernel, kernel))).flatten()
        for unit in torch.eye(count, dtype=features.dtype)
    ]
    matrix = torch.cat([torch.stack(columns, 1), regularization**0.5 * torch.eye(count)])
    right = torch.cat([(weights * targets).flatten(), torch.zeros(count)])
    return torch.linalg.lstsq(matrix, right).solution.reshape(outputs, channels, kernel, kernel)


@pytest.mark.parametrize("shared_weights", [True, False])
@pytest.mark.parametrize("form", ["primal", "dual"])
def test_ridge_is_the_dense_solution(form, shared_weights):
    features, targets, weights, params = problem_tensors(outputs=2, channels=3)
    if shared_weights:
        weights = weights[:, :1]
    problem = il.ConvLeastSquares(features, targets, weights, 0.2)
    solution = il.solve(problem, params, il.Ridge(form))
    expected = dense_solution(features, targets, weights, 0.2, 3)
    torch.testing.assert_close(solution.value, expected, rtol=1e-9, atol=1e-10)
    assert solution.status is il.Status.CONVERGED


@pytest.mark.parametrize("solver", [il.SteepestDescent(), il.ConjugateGradient()])
def test_iterative_solvers_reach_the_exact_solution(solver):
    features, targets, weights, params = problem_tensors(batch=(2,))
    problem = il.ConvLeastSquares(features, targets, weights, 20.0)
    exact = il.solve(problem, params, il.Ridge()).value
    solution = il.solve(problem, params, solver, steps=4000, tolerance=1e-13)
    torch.testing.assert_close(solution.value, exact, rtol=1e-9, atol=1e-11)
    assert solution.status is il.Status.CONVERGED
    assert solution.stats.losses.shape[0] < 4000


def test_conjugate_gradient_terminates_in_as_many_steps_as_unknowns():
    features, targets, weights, params = problem_tensors(channels=2, outputs=1, kernel=1)
    targets = targets[:, :1]
    problem = il.ConvLeastSquares(features, targets, weights[:, :1], 0.1)
    exact = il.solve(problem, params, il.Ridge()).value
    value = il.solve(problem, params, il.ConjugateGradient(), steps=2).value
    torch.testing.assert_close(value, exact, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(("solver", "steps"), SOLVERS)
@pytest.mark.parametrize("batch", [(), (2,)])
def test_gradcheck(solver, steps, batch):
    features, targets, weights, params = problem_tensors(
        batch=batch, frames=2, channels=2, outputs=2, size=(3, 4)
    )
    regularization = torch.full(batch, 0.4, dtype=torch.float64)
    inputs = [features, targets, weights, regularization, params]
    for tensor in inputs:
        tensor.requires_grad_()

    def value(features, targets, weights, regularization, init):
        problem = il.ConvLeastSquares(features, targets, weights, regularization)
        return il.solve(problem, init, solver, steps=steps).value

    torch.autograd.gradcheck(value, inputs, rtol=1e-5, atol=1e-7)


def test_second_order_gradient():
    features, targets, _, params = problem_tensors(
        frames=1, channels=2, outputs=1, size=(3, 3), kernel=1
    )
    features.requires_grad_()

    def value(features):
        problem = il.ConvLeastSquares(features, targets, None, 0.5)
        return il.solve(problem, params, il.SteepestDescent(), steps=2).value

    torch.autograd.gradgradcheck(value, (features,), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("solver", "steps"), SOLVERS)
def test_a_batch_is_its_problems_one_by_one(solver, steps):
    features, targets, weights, params = problem_tensors(batch=(2, 2))
    regularization = torch.rand(2, 2, dtype=torch.float64) + 0.1
    together = il.solve(
        il.ConvLeastSquares(features, targets, weights, regularization),
        params,
        solver,
        steps=steps,
    )
    for i in range(2):
        for j in range(2):
            alone = il.solve(
                il.ConvLeastSquares(
                    features[i, j], targets[i, j], weights[i, j], regularization[i, j]
                ),
                params[i, j],
                solver,
                steps=steps,
            )
            torch.testing.assert_close(together.value[i, j], alone.value)
            torch.testing.assert_close(together.stats.losses[:, i, j], alone.stats.losses)
            torch.testing.assert_close(together.stats.step_sizes[:, i, j], alone.stats.step_sizes)


def test_nothing_handed_in_is_changed():
    tensors = problem_tensors()
    before = [t.clone() for t in tensors]
    features, targets, weights, params = tensors
    for solver, steps in SOLVERS:
        il.solve(il.ConvLeastSquares(features, targets, weights, 0.1), params, solver, steps=steps)
    for tensor, copy in zip(tensors, before, strict=True):
        assert torch.equal(tensor, copy)


def test_detach_gives_the_value_without_a_graph():
    features, targets, weights, params = problem_tensors()
    features.requires_grad_()
    problem = il.ConvLeastSquares(features, targets, weights, 0.1)
    detached = il.solve(problem, params, il.SteepestDescent(), steps=3, adjoint=il.Detach())
    unrolled = il.solve(problem, params, il.SteepestDescent(), steps=3)
    assert not detached.value.requires_grad
    assert unrolled.value.requires_grad
    assert not unrolled.stats.losses.requires_grad
    torch.testing.assert_close(detached.value, unrolled.value.detach())


def test_losses_fall_and_are_those_of_the_iterates():
    features, targets, weights, params = problem_tensors()
    problem = il.ConvLeastSquares(features, targets, weights, 0.1)
    stats = il.solve(problem, params, il.SteepestDescent(), steps=6).stats
    assert stats.losses[0] == problem.loss(params)
    assert (stats.losses.diff() < 0).all()


@pytest.mark.parametrize(("solver", "steps"), SOLVERS)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_non_finite_features_are_reported(solver, steps, bad):
    features, targets, weights, params = problem_tensors(batch=(2,))
    features[1, 0, 0, 0, 0] = bad
    problem = il.ConvLeastSquares(features, targets, weights, 0.1)
    with pytest.raises(il.SolveError, match="1 of 2 problems: NOT_FINITE"):
        il.solve(problem, params, solver, steps=steps)
    solution = il.solve(problem, params, solver, steps=steps, throw=False)
    assert solution.status is il.Status.NOT_FINITE
    assert solution.statuses[0] < il.Status.BREAKDOWN
    assert solution.value[0].isfinite().all()


def test_a_singular_system_is_a_breakdown():
    features, targets, _, params = problem_tensors()
    problem = il.ConvLeastSquares(torch.zeros_like(features), targets)
    with pytest.raises(il.SolveError, match="BREAKDOWN"):
        il.solve(problem, params, il.Ridge())
    for solver in (il.SteepestDescent(), il.ConjugateGradient()):
        solution = il.solve(problem, params, solver, steps=3)
        assert solution.status is il.Status.CONVERGED
        assert torch.equal(solution.value, params)


def test_no_steps_return_init():
    features, targets, _, params = problem_tensors()
    solution = il.solve(
        il.ConvLeastSquares(features, targets), params, il.SteepestDescent(), steps=0
    )
    assert torch.equal(solution.value, params)
    assert solution.stats.losses.shape == (0,)
    assert solution.status is il.Status.STEPS_USED_UP


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p, x: il.solve(p, x, il.SteepestDescent(), steps=-1), "^steps: -1"),
        (lambda p, x: il.solve(p, x, il.SteepestDescent(), tolerance=-1.0), "^tolerance: -1.0"),
        (lambda p, x: il.SteepestDescent(floor=-1.0), "^floor: -1.0"),
        (lambda p, x: il.Ridge("both"), "^form: 'both'"),
    ],
)
def test_bad_arguments_are_named(call, message):
    features, targets, _, params = problem_tensors()
    with pytest.raises(ValueError, match=message):
        call(il.ConvLeastSquares(features, targets), params)
