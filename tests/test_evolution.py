"""Evolution strategies: unbiased for the smoothed loss, reproducible, and without any gradient."""

import pytest
import torch

import innerloop as il

SIGMA = 0.4


def normal(*shape, seed=0):
    make = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=make, dtype=torch.float64)


def quadratic():
    """An outer loss of an inner quadratic's exact solution, as matrix and vector, and a point."""
    hessian = torch.diag(torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64))
    target = normal(3, seed=1)

    def loss(h):
        problem = il.Quadratic(lambda v: hessian @ v, h)
        value = il.solve(problem, torch.zeros_like(h), il.Exact(), adjoint=il.Detach()).value
        return 2.0 * (value - target).square().sum()

    inverse = torch.linalg.inv(hessian)
    point = normal(3, seed=2)
    gradient = 4.0 * inverse @ (inverse @ point - target)
    value = loss(point) + SIGMA**2 * 2.0 * inverse.square().sum()
    return loss, point, value, gradient


def quartic():
    """One whose smoothed gradient is another than its own."""
    point = torch.tensor([0.3, -0.5], dtype=torch.float64)
    loss = lambda h: h.pow(4).sum()  # noqa: E731
    gradient = 4 * point**3 + 12 * SIGMA**2 * point
    value = (point**4 + 6 * SIGMA**2 * point**2 + 3 * SIGMA**4).sum()
    return loss, point, value, gradient


def estimates(loss, point, replicates, **options):
    make = torch.Generator().manual_seed(5)
    rows = []
    for _ in range(replicates):
        leaf = point.clone().requires_grad_()
        value = il.smoothed_loss(loss, leaf, sigma=SIGMA, generator=make, **options)
        value.backward()
        rows.append(torch.cat([value.detach()[None], leaf.grad]))
    return torch.stack(rows)


@pytest.mark.parametrize(("make", "count"), [(quadratic, 100), (quartic, 500)])
def test_value_and_gradient_are_unbiased_for_the_smoothed_loss(make, count):
    loss, point, value, gradient = make()
    found = estimates(loss, point, count, pairs=4)
    exact = torch.cat([value.reshape(1), gradient])
    # Within four standard errors, and these are small enough to tell other gradients apart.
    error = found.std(0) / count**0.5
    assert ((found.mean(0) - exact).abs() < 4 * error).all()
    assert (error[1:] < 0.1 * gradient.norm()).all()


def test_the_error_falls_with_the_root_of_the_pairs():
    loss, point = lambda h: (h - 1).square().sum(), normal(3)
    few, many = (estimates(loss, point, 400, pairs=pairs).std(0)[1:] for pairs in (1, 16))
    assert ((few / many - 4).abs() < 1).all()


def test_the_gradient_of_a_linear_loss_has_no_error_in_its_pairs():
    slope = normal(3)
    leaf = normal(3, seed=1).requires_grad_()
    make = torch.Generator().manual_seed(3)
    il.smoothed_loss(lambda h: slope @ h, leaf, pairs=2, generator=make).backward()
    make.manual_seed(3)
    noise = torch.randn(2, 3, generator=make, dtype=torch.float64)
    torch.testing.assert_close(leaf.grad, (noise @ slope) @ noise / 2)


def test_the_generator_makes_it_reproducible():
    loss, point, _, _ = quadratic()
    rows = [estimates(loss, point, 2, pairs=2) for _ in range(2)]
    assert torch.equal(*rows)
    assert not torch.equal(rows[0][0], rows[0][1])
    torch.manual_seed(0)
    first = il.smoothed_loss(loss, point)
    torch.manual_seed(0)
    assert torch.equal(first, il.smoothed_loss(loss, point))


def test_no_gradient_is_needed_and_no_graph_is_kept():
    seen = []

    def loss(h):
        seen.append(h)
        assert not torch.is_grad_enabled()
        return torch.tensor(float((h["a"].round().sum() + h["b"]).item()), dtype=torch.float64)

    params = {"a": normal(3).requires_grad_(), "b": torch.tensor(1.0, dtype=torch.float64)}
    value = il.smoothed_loss(loss, params, pairs=4)
    value.backward()
    assert len(seen) == 8
    assert not any(leaf.requires_grad for h in seen for leaf in h.values())
    assert params["a"].grad.isfinite().all()


def test_a_task_loss_may_be_smoothed():
    loss, point, _, _ = quadratic()

    def task_loss(h, task):
        make = torch.Generator().manual_seed(7)
        return il.smoothed_loss(lambda h: task * loss(h), h, sigma=SIGMA, pairs=2, generator=make)

    tasks = torch.tensor([1.0, 3.0], dtype=torch.float64)
    found = il.task_gradients(task_loss, point.requires_grad_(), tasks)
    (one,) = torch.autograd.grad(task_loss(point, 2.0), point)
    torch.testing.assert_close(found.gradients, one)


def test_under_torch_func_grad():
    loss, point, _, _ = quartic()

    def smoothed(h):
        make = torch.Generator().manual_seed(7)
        return il.smoothed_loss(loss, h, sigma=SIGMA, pairs=2, generator=make)

    leaf = point.clone().requires_grad_()
    (expected,) = torch.autograd.grad(smoothed(leaf), leaf)
    torch.testing.assert_close(torch.func.grad(smoothed)(point), expected)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"sigma": 0.0}, ValueError, "sigma: 0"),
        ({"sigma": -1.0}, ValueError, "sigma: -1"),
        ({"pairs": 0}, ValueError, "pairs: 0"),
        ({"params": {"a": torch.tensor(3)}}, ValueError, r"params\['a'\]: torch.int64"),
        ({"params": 1.0}, TypeError, "params: float"),
        ({"loss": lambda h: h}, ValueError, r"loss: returned \(3,\)"),
        ({"loss": lambda h: 1.0}, ValueError, "loss: returned float"),
    ],
)
def test_wrong_arguments(change, error, message):
    arguments = {"loss": lambda h: h.sum(), "params": normal(3), **change}
    with pytest.raises(error, match=message):
        il.smoothed_loss(**arguments)


RATE, WINDOWS, LENGTH = 0.1, 4, 2
CURVES = torch.tensor([1.0, 3.0], dtype=torch.float64)


def window(h, state):
    """Steps of gradient descent towards h, and a quadratic loss of where they end."""
    for _ in range(LENGTH):
        state = state - RATE * CURVES * (state - h)
    return (state - 1).square().sum(), state


def unrolled(point, truncated=False):
    """The gradient of the sum of all windows' losses, exactly."""
    leaf, state, total = point.clone().requires_grad_(), torch.zeros_like(point), 0.0
    for _ in range(WINDOWS):
        value, state = window(leaf, state.detach() if truncated else state)
        total = total + value
    return torch.autograd.grad(total, leaf)[0]


def truncated_losses(point, make):
    """Truncated evolution strategies: one state, and no memory of perturbations."""
    state = torch.zeros(2, dtype=torch.float64)
    for _ in range(WINDOWS):
        seen = lambda h, state=state: window(h, state)[0]  # noqa: E731
        yield il.smoothed_loss(seen, point, sigma=SIGMA, pairs=4, generator=make)
        state = window(point.detach(), state)[1]


def test_persistent_evolution_is_unbiased_where_truncated_evolution_is_not():
    point, start = torch.tensor([2.0, -1.0], dtype=torch.float64), torch.zeros(2).double()
    make, rows = torch.Generator().manual_seed(5), {"persistent": [], "truncated": []}
    for _ in range(200):
        for name, row in rows.items():
            leaf = point.clone().requires_grad_()
            if name == "truncated":
                losses = truncated_losses(leaf, make)
            else:
                losses = il.smoothed_loss_in_windows(
                    window, leaf, start, windows=WINDOWS, sigma=SIGMA, pairs=4, generator=make
                )
            for value in losses:
                value.backward()
            row.append(leaf.grad)
    exact = unrolled(point)
    for name, row in rows.items():
        found = torch.stack(row)
        off, error = (found.mean(0) - exact).abs(), found.std(0) / len(row) ** 0.5
        if name == "persistent":
            assert (off < 4 * error).all()
            assert error.norm() < 0.1 * exact.norm()
        else:
            assert off.norm() > 10 * error.norm()
            cut = unrolled(point, truncated=True)
            assert ((found.mean(0) - cut).abs() < 4 * error).all()


def test_persistent_evolution_by_its_formula():
    point, start = normal(2), normal(2, seed=1)
    make = torch.Generator().manual_seed(3)
    rows = il.smoothed_loss_in_windows(
        window, (leaf := point.clone().requires_grad_()), start, windows=3, pairs=1, generator=make
    )
    same = torch.Generator().manual_seed(3)
    total, (up, down) = torch.zeros(2).double(), (start, start)
    for value in rows:
        noise = 0.1 * torch.randn(2, generator=same, dtype=torch.float64)
        total = total + noise
        (first, up), (second, down) = window(leaf + noise, up), window(leaf - noise, down)
        (gradient,) = torch.autograd.grad(value, leaf)
        torch.testing.assert_close(gradient, (first - second).detach() / 0.02 * total)
        torch.testing.assert_close(value, (first + second) / 2)
        # An outer step between windows.
        with torch.no_grad():
            leaf -= 0.01 * gradient


def test_persistent_evolution_of_a_solve_goes_on_with_its_state():
    def solved(h, carried):
        solution = il.solve(
            lambda p: (p - h["target"]).square().sum(),
            *(carried[0], il.Adam(0.1)),
            steps=2,
            state=carried[1],
        )
        return solution.value.square().sum(), (solution.value, solution.state)

    h = {"target": normal(3).requires_grad_()}
    rows = il.smoothed_loss_in_windows(
        solved, h, (torch.zeros(3).double(), None), windows=3, sigma=1e-9, pairs=1
    )
    whole = il.solve(
        lambda p: (p - h["target"]).square().sum(), torch.zeros(3).double(), il.Adam(0.1), steps=6
    )
    *_, last = rows
    torch.testing.assert_close(last, whole.value.square().sum(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"windows": -1}, ValueError, "windows: -1"),
        ({"sigma": 0.0}, ValueError, "sigma: 0"),
        ({"loss": lambda h, state: h.sum()}, TypeError, "loss: returned"),
        ({"loss": lambda h, state: (h, state)}, ValueError, r"loss: returned \(3,\)"),
    ],
)
def test_wrong_arguments_of_windows(change, error, message):
    arguments = {"loss": lambda h, state: (h.sum(), state), "params": normal(3), "start": None}
    with pytest.raises(error, match=message):
        list(il.smoothed_loss_in_windows(**{**arguments, "windows": 1, **change}))
