"""Least squares from sufficient statistics against the samples, dense solves and differences."""

import copy
import gc
import pickle
import weakref

import pytest
import torch
from pairs import normal
from torch.nn import functional as F

import innerloop as il
from innerloop.maps.weighted_gram import weighted_gram

BATCHES = [(), (2,), (2, 3)]


def rows(batch=(), samples=7, channels=4, outputs=3):
    """Features, targets, weights and λ of a linear layer, and parameters."""
    features, targets = normal(*batch, samples, channels), normal(*batch, samples, outputs, seed=1)
    weights = 1 + 0.3 * normal(*batch, samples)
    params = normal(*batch, outputs, channels, seed=2)
    return features, targets, weights, 0.3 + normal(*batch).square(), params


def frames(batch=(), count=2, channels=3, outputs=2, size=(4, 5), kernel=3):
    features = normal(*batch, count, channels, *size)
    targets = normal(*batch, count, outputs, *size, seed=1)
    weights = 1 + 0.3 * normal(*batch, count, 1, *size)
    params = normal(*batch, outputs, channels, kernel, kernel, seed=2)
    return features, targets, weights, 0.3 + normal(*batch).square(), params


def of_rows(features, targets, weights=None):
    return il.Statistics.linear(features, targets, weights)


def of_frames(features, targets, weights=None):
    return il.Statistics.conv(features, targets, weights, kernel=3)


KINDS = [
    pytest.param(rows, of_rows, il.LinearLeastSquares, id="linear"),
    pytest.param(frames, of_frames, il.ConvLeastSquares, id="conv"),
]


def assert_same(statistics, other, **tolerances):
    for tensor, expected in zip(
        statistics.state_dict().values(), other.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(tensor, expected, **tolerances)


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("size", [(4, 5), (1, 1), (2, 7)])
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_the_gram_matrix_is_that_of_the_patches(batch, size, kernel):
    features, squares = normal(*batch, 2, 3, *size), normal(*batch, 2, *size).square()
    gram = weighted_gram(features, squares, kernel)
    patches = F.unfold(features.flatten(0, -4), kernel, padding=kernel // 2)
    patches = patches.reshape(*batch, 2, *patches.shape[1:])
    weighted = patches * squares.flatten(-2).unsqueeze(-2)
    expected = (weighted @ patches.mT).sum(-3)
    torch.testing.assert_close(gram, expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(gram, gram.mT)


@pytest.mark.parametrize("kernel", [1, 3])
def test_the_gram_matrix_has_right_derivatives_of_two_orders(kernel):
    features = normal(2, 2, 2, 3, 2).requires_grad_()
    squares = normal(2, 2, 3, 2).square().requires_grad_()

    def gram(features, squares):
        return weighted_gram(features, squares, kernel)

    assert torch.autograd.gradcheck(gram, (features, squares))
    assert torch.autograd.gradgradcheck(gram, (features, squares))


def test_the_gram_matrix_of_many_pixels_is_summed_part_by_part(monkeypatch):
    features, squares = normal(2, 3, 2, 17, 29), normal(2, 3, 17, 29).square()
    whole = weighted_gram(features, squares, 3)
    for pixels in (1, 100, 1000):
        monkeypatch.setattr("innerloop.maps.weighted_gram._PIXELS", pixels)
        torch.testing.assert_close(weighted_gram(features, squares, 3), whole)


def test_the_gram_matrix_maps_over_either_argument():
    features, squares = normal(2, 3, 2, 4, 5), normal(2, 3, 4, 5).square()
    one = torch.func.vmap(weighted_gram, in_dims=(0, None, None))(features, squares[0], 3)
    torch.testing.assert_close(one[1], weighted_gram(features[1], squares[0], 3))
    one = torch.func.vmap(weighted_gram, in_dims=(None, 0, None))(features[0], squares, 3)
    torch.testing.assert_close(one[1], weighted_gram(features[0], squares[1], 3))


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("weighting", ["none", "sample", "shared"])
@pytest.mark.parametrize(("data", "make", "kind"), KINDS)
def test_the_objective_is_that_of_the_samples(data, make, kind, weighting, batch):
    features, targets, weights, decay, params = data(batch)
    if weighting == "none":
        weights = None
    elif weighting == "sample" and data is frames:
        weights = weights[..., 0, 0, 0]
    elif weighting == "shared" and data is rows:
        # One output may have its weights in the shape of the targets.
        weights, targets, params = weights[..., None], targets[..., :1], params[..., :1, :]
    known = il.NormalEquations(make(features, targets, weights), decay)
    samples = kind(features, targets, weights, decay)
    assert known.batch_shape == batch
    close = {"rtol": 1e-12, "atol": 1e-12}
    for found, expected in zip(
        known.value_and_gradient(params), samples.value_and_gradient(params), strict=True
    ):
        torch.testing.assert_close(found, expected, **close)
    torch.testing.assert_close(known.loss(params), samples.loss(params), **close)
    direction = normal(*params.shape, seed=5)
    for problem in (known, samples):
        response = problem.respond(params, direction)
        assert problem.curvature(direction, response).shape == batch
    torch.testing.assert_close(
        known.gauss_newton_operator(params)(direction),
        samples.gauss_newton_operator(params)(direction),
        **close,
    )
    torch.testing.assert_close(
        il.solve(known, params, il.Ridge()).value,
        il.solve(samples, params, il.Ridge("primal")).value,
        rtol=1e-9,
        atol=1e-9,
    )


@pytest.mark.parametrize(("data", "make", "kind"), KINDS)
def test_a_solution_solves_the_dense_system(data, make, kind):
    features, targets, weights, _, params = data()
    statistics = make(features, targets, weights)
    system = statistics.gram + 0.3 * torch.eye(len(statistics.gram), dtype=torch.float64)
    expected = torch.linalg.solve(system, statistics.moment.flatten(1).mT).mT.reshape(params.shape)
    problem = il.NormalEquations(statistics, 0.3)
    for solver, steps in ((il.Ridge(), 1), (il.Exact(), 1), (il.ConjugateGradient(), 60)):
        solution = il.solve(problem, params, solver, steps=steps)
        torch.testing.assert_close(solution.value, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "solver",
    [il.SteepestDescent(), il.ConjugateGradient(), il.Newton(0.9, linear_solver=il.Exact())],
)
@pytest.mark.parametrize(("data", "make", "kind"), KINDS)
def test_steps_are_those_on_the_samples(data, make, kind, solver):
    features, targets, weights, decay, params = data((2,))
    known = il.solve(
        il.NormalEquations(make(features, targets, weights), decay), params, solver, steps=4
    )
    samples = il.solve(kind(features, targets, weights, decay), params, solver, steps=4)
    torch.testing.assert_close(known.value, samples.value, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(known.stats.losses, samples.stats.losses)
    torch.testing.assert_close(known.stats.gradient_norms, samples.stats.gradient_norms)


@pytest.mark.parametrize(("data", "make", "kind"), KINDS)
def test_a_sum_is_the_statistics_of_all_samples(data, make, kind):
    features, targets, weights, _, _ = data((2,))
    axis = 1
    parts = [
        make(*(part.narrow(axis, start, 1) for part in (features, targets, weights)))
        for start in range(features.shape[axis])
    ]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    assert_same(total, make(features, targets, weights))


@pytest.mark.parametrize(("data", "make", "kind"), KINDS)
def test_forgetting_weighs_old_samples_less(data, make, kind):
    features, targets, weights, _, _ = data((2,))
    old = make(features, targets, weights)
    new = make(2 * features, targets - 1, weights)
    rate = torch.tensor([0.1, 1.0], dtype=torch.float64)
    found = old.updated(new, rate)
    for name, tensor in found.state_dict().items():
        for b in range(2):
            expected = (1 - rate[b]) * getattr(old, name)[b] + rate[b] * getattr(new, name)[b]
            torch.testing.assert_close(tensor[b], expected)
    assert_same(old.scaled(4.0), make(features, targets, 2 * weights))


@pytest.mark.parametrize(
    "channels", [slice(0, 2), slice(1, None), slice(None, None, 2), [2, 0], [1, 2]]
)
@pytest.mark.parametrize(("data", "make", "kind"), KINDS)
def test_statistics_of_some_channels_are_parts_of_the_whole(data, make, kind, channels):
    features, targets, weights, _, _ = data((2,))
    whole = make(features, targets, weights)
    seen = features[..., channels] if data is rows else features[:, :, channels]
    for chosen in (channels, torch.tensor(channels) if isinstance(channels, list) else channels):
        assert_same(whole.select(chosen), make(seen, targets, weights))
    shared = whole.select(channels).gram.untyped_storage().data_ptr()
    consecutive = channels in (slice(0, 2), slice(1, None), [1, 2])
    assert (shared == whole.gram.untyped_storage().data_ptr()) is consecutive


@pytest.mark.parametrize("solver", [il.Ridge(), il.ConjugateGradient()])
@pytest.mark.parametrize(("data", "make", "kind"), KINDS)
def test_derivatives_of_two_orders_are_right(data, make, kind, solver):
    arguments = data()[:3]
    if data is frames:
        arguments = frames(channels=2, outputs=1, size=(2, 3))[:3]
    decay, rate = (torch.tensor(v, dtype=torch.float64) for v in (0.7, 0.4))
    leaves = [t.clone().requires_grad_() for t in (*arguments, decay, rate)]

    def solved(features, targets, weights, decay, rate):
        old, new = make(features, targets, weights), make(features.sin(), targets, weights.cos())
        problem = il.NormalEquations(old.updated(new, rate), decay)
        start = torch.zeros_like(problem.statistics.moment)
        value = il.solve(problem, start, solver, steps=2).value
        return (value * normal(*value.shape)).sum() + problem.loss(value)

    assert torch.autograd.gradcheck(solved, leaves)
    assert torch.autograd.gradgradcheck(solved, leaves, atol=1e-4)


@pytest.mark.parametrize("forgetting", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_ten_thousand_updates_in_single_precision_stay_accurate(forgetting):
    make = torch.Generator().manual_seed(0)
    mixing = torch.randn(24, 24, generator=make)
    truth = torch.randn(3, 24, generator=make)
    single = double = None
    for _ in range(10_000):
        features = torch.randn(4, 24, generator=make) @ mixing
        targets = features @ truth.mT + torch.randn(4, 3, generator=make)
        weights = torch.rand(4, generator=make)
        new = il.Statistics.linear(features, targets, weights)
        precise = il.Statistics.linear(features.double(), targets.double(), weights.double())
        if single is None:
            single, double = new, precise
        elif forgetting:
            single, double = single.updated(new, 0.01), double.updated(precise, 0.01)
        else:
            single, double = single + new, double + precise
    assert torch.equal(single.gram, single.gram.mT)
    assert torch.linalg.eigvalsh(single.gram.double()).min() > 0
    for name, tensor in double.state_dict().items():
        error = (getattr(single, name) - tensor).norm() / tensor.norm()
        assert error < 1e-5, (name, error)
    start = torch.zeros(3, 24)
    decay = 1e-3 * float(double.gram.diagonal().mean())
    found = il.solve(il.NormalEquations(single, decay), start, il.Ridge()).value
    expected = il.solve(il.NormalEquations(double, decay), start.double(), il.Ridge()).value
    assert (found - expected).norm() / expected.norm() < 1e-3


def test_statistics_are_a_tree_and_can_be_stored():
    statistics = of_rows(*rows((2,))[:3])
    again = il.Statistics(**statistics.state_dict())
    for other in (again, copy.deepcopy(statistics), pickle.loads(pickle.dumps(statistics))):
        assert_same(other, statistics, rtol=0, atol=0)
    features, targets, weights, _, _ = rows((2,))
    mapped = torch.func.vmap(il.Statistics.linear)(features, targets, weights)
    assert_same(mapped, statistics)
    doubled = il.trees.tree_map(lambda tensor: 2 * tensor, statistics)
    assert_same(doubled, statistics.scaled(2.0))
    grown = of_rows(features.requires_grad_(), targets, weights)
    assert grown.gram.requires_grad
    assert not grown.detach().gram.requires_grad


def test_the_inverse_of_old_samples_preconditions_new_ones():
    features, targets, weights, _, params = rows(samples=40, channels=20)
    old = of_rows(features[:-2], targets[:-2], weights[:-2])
    problem = il.NormalEquations(old, 1e-3)
    torch.testing.assert_close(
        problem.inverse()(problem.gauss_newton_operator(params)(params)), params
    )
    new = il.LinearLeastSquares(features, targets, weights, 1e-3)
    known = il.ConjugateGradient(problem.inverse())
    exact = il.solve(new, params, il.Ridge()).value
    found = il.solve(new, params, known, steps=3).value
    torch.testing.assert_close(found, exact, rtol=1e-8, atol=1e-8)


def test_the_inverse_of_a_singular_system_is_nan():
    features, targets, _, _, params = rows(samples=2)
    inverse = il.NormalEquations(of_rows(torch.zeros_like(features), targets)).inverse()
    assert inverse(params).isnan().all()


@pytest.mark.parametrize(("data", "make", "kind"), KINDS)
def test_autocast_leaves_the_sums_in_their_precision(data, make, kind):
    samples = [part.float() for part in data()[:3]]
    expected = make(*samples)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_same(make(*samples), expected, rtol=0, atol=0)


def test_a_problem_is_freed_with_its_last_reference():
    gc.disable()
    try:
        problem = il.NormalEquations(of_rows(*rows()[:3]), 0.1)
        freed = weakref.ref(problem)
        del problem
        assert freed() is None
    finally:
        gc.enable()


def test_an_empty_batch_is_solved():
    features, targets, weights, _, params = frames((0,))
    problem = il.NormalEquations(of_frames(features, targets, weights), 0.1)
    assert il.solve(problem, params, il.Ridge()).value.shape == params.shape


def test_a_singular_system_is_a_breakdown():
    features, targets, _, _, params = rows(samples=2)
    features = torch.zeros_like(features)
    problem = il.NormalEquations(of_rows(features, targets))
    solution = il.solve(problem, params, il.Ridge(), throw=False)
    assert solution.status is il.Status.BREAKDOWN
    with pytest.raises(il.SolveError, match="larger regularization"):
        il.solve(problem, params, il.Ridge())


def test_nan_in_the_samples_is_a_status():
    features, targets, weights, decay, params = rows()
    features[0, 0] = torch.nan
    problem = il.NormalEquations(of_rows(features, targets, weights), decay)
    for solver in (il.Ridge(), il.SteepestDescent()):
        solution = il.solve(problem, params, solver, throw=False)
        assert solution.status is il.Status.NOT_FINITE


def test_the_dual_form_needs_samples():
    features, targets, weights, decay, params = rows()
    problem = il.NormalEquations(of_rows(features, targets, weights), decay)
    with pytest.raises(TypeError, match=r"^form: 'dual' solves LinearLeastSquares, ConvLeast"):
        il.solve(problem, params, il.Ridge("dual"))


ROWS, FRAMES = rows(), frames()
STATISTICS = of_rows(*ROWS[:3])


@pytest.mark.parametrize(
    ("message", "make"),
    [
        ("features: shape", lambda: of_rows(ROWS[0][0], ROWS[1])),
        ("features: torch.int64", lambda: of_rows(ROWS[0].long(), ROWS[1])),
        ("targets: shape", lambda: of_rows(ROWS[0], ROWS[1][:-1])),
        ("targets: torch.float32", lambda: of_rows(ROWS[0], ROWS[1].float())),
        ("weights: shape .* all outputs share", lambda: of_rows(*ROWS[:2], torch.ones(7, 3))),
        ("weights: shape", lambda: of_rows(*ROWS[:2], torch.ones(5))),
        ("features: shape", lambda: of_frames(FRAMES[0][0], FRAMES[1])),
        ("targets: shape", lambda: of_frames(FRAMES[0], FRAMES[1][..., :-1])),
        ("weights: shape .* all outputs share", lambda: of_frames(*FRAMES[:2], FRAMES[1])),
        ("weights: shape", lambda: of_frames(*FRAMES[:2], FRAMES[2][..., :-1])),
        ("kernel: 2", lambda: il.Statistics.conv(*FRAMES[:3], kernel=2)),
        ("kernel: -1", lambda: il.Statistics.conv(*FRAMES[:3], kernel=-1)),
        ("gram: shape", lambda: il.Statistics(STATISTICS.gram[1:], *list(parts())[1:])),
        ("moment: shape", lambda: il.Statistics(STATISTICS.gram[1:, 1:], *list(parts())[1:])),
        ("moment: torch.float32", lambda: remade(moment=STATISTICS.moment.float())),
        ("energy: shape", lambda: remade(energy=STATISTICS.energy[1:])),
        ("energy: torch.int64", lambda: remade(energy=STATISTICS.energy.long())),
        ("other: of parameters", lambda: STATISTICS + of_rows(ROWS[0], ROWS[1][:, 1:])),
        ("other: torch.float32", lambda: STATISTICS + of_rows(ROWS[0].float(), ROWS[1].float())),
        ("new: of parameters", lambda: STATISTICS.updated(of_frames(*FRAMES[:3]), 0.5)),
        ("rate: 0", lambda: STATISTICS.updated(STATISTICS, 0)),
        ("rate: 1.5", lambda: STATISTICS.updated(STATISTICS, 1.5)),
        ("rate: nan", lambda: STATISTICS.updated(STATISTICS, float("nan"))),
        ("rate: shape", lambda: STATISTICS.updated(STATISTICS, torch.ones(2))),
        ("factor: -1", lambda: STATISTICS.scaled(-1)),
        ("channels: slice", lambda: STATISTICS.select(slice(4, None))),
        (r"channels: \[4\]", lambda: STATISTICS.select([4])),
        (r"channels: \[0.5\]", lambda: STATISTICS.select([0.5])),
        (r"channels: tensor", lambda: STATISTICS.select(torch.tensor([True]))),
        ("regularization: -1", lambda: il.NormalEquations(STATISTICS, -1)),
        ("regularization: shape", lambda: il.NormalEquations(STATISTICS, torch.ones(2))),
        ("init: shape", lambda: solved(torch.zeros(2, 4))),
        ("init: torch.float32", lambda: solved(torch.zeros(3, 4))),
    ],
)
def test_bad_arguments_are_named(message, make):
    with pytest.raises(ValueError, match=f"^{message}"):
        make()


@pytest.mark.parametrize(
    ("message", "make"),
    [
        ("kernel: 3.0", lambda: il.Statistics.conv(*FRAMES[:3], kernel=3.0)),
        ("gram: list, should be a tensor", lambda: remade(gram=[])),
        ("new: Tensor, should be Statistics", lambda: STATISTICS.updated(ROWS[0], 0.5)),
        ("rate: str", lambda: STATISTICS.updated(STATISTICS, "all")),
        ("statistics: Tensor", lambda: il.NormalEquations(ROWS[0])),
        ("init: dict", lambda: solved({"weight": torch.zeros(3, 4)})),
    ],
)
def test_arguments_of_another_type_are_named(message, make):
    with pytest.raises(TypeError, match=f"^{message}"):
        make()


def parts():
    return STATISTICS.state_dict().values()


def remade(**change):
    return il.Statistics(**{**STATISTICS.state_dict(), **change})


def solved(init):
    return il.solve(il.NormalEquations(STATISTICS, 0.1), init, il.Ridge())
