"""Gaussians of softly assigned samples against scipy, scikit-learn, the samples and differences."""

import pickle

import numpy as np
import pytest
import torch
from pairs import normal
from scipy.stats import multivariate_normal
from sklearn.mixture import GaussianMixture as Reference

import innerloop as il

BATCHES = [(), (2,), (2, 3)]


def drawn(batch=(), count=9, channels=3, components=4):
    """Samples, assignments and regularisers."""
    samples = normal(*batch, count, channels)
    assignments = normal(*batch, count, components, seed=1).abs()
    return samples, assignments, 0.1 + normal(components, channels).square()


def solved(moments, regularization=0.0, **options):
    problem = il.GaussianMixture(moments, regularization)
    return il.solve(problem, problem.start(), il.MaximumLikelihood(), **options).value


def assert_same(moments, other, **tolerances):
    for name, tensor in moments.state_dict().items():
        torch.testing.assert_close(tensor, other.state_dict()[name], **tolerances)


@pytest.mark.parametrize("batch", BATCHES)
def test_the_solution_is_the_formula_of_the_paper(batch):
    samples, assignments, floor = drawn(batch)
    found = solved(il.Moments.of(samples, assignments), floor)
    share = assignments.unsqueeze(-1)
    total = share.sum(-3)
    mean = (share * samples.unsqueeze(-2)).sum(-3) / total
    away = (samples.unsqueeze(-2) - mean.unsqueeze(-3)).square() + floor
    variance = (share * away).sum(-3) / total
    torch.testing.assert_close(found["mean"], mean, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found["log_variance"].exp(), variance, rtol=1e-12, atol=1e-12)


def test_the_solution_is_what_other_solvers_reach():
    samples, assignments, floor = drawn()
    problem = il.GaussianMixture(il.Moments.of(samples, assignments), floor)
    expected = il.solve(problem, problem.start(), il.MaximumLikelihood()).value
    found = il.solve(problem, problem.start(), il.Newton(il.Armijo()), steps=30).value
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-9, atol=1e-9)
    _, gradient = problem.value_and_gradient(expected)
    assert all(part.abs().max() < 1e-12 for part in gradient.values())


@pytest.mark.parametrize("batch", BATCHES)
def test_densities_and_posteriors_are_those_of_scipy(batch):
    samples, assignments, floor = drawn(batch)
    params = solved(il.Moments.of(samples, assignments), floor)
    found = il.GaussianMixture.log_densities(params, samples)
    mean, variance = params["mean"].numpy(), params["log_variance"].exp().numpy()
    expected = np.empty(found.shape)
    for index in np.ndindex(*batch):
        for k in range(mean.shape[-2]):
            density = multivariate_normal(mean[index][k], np.diag(variance[index][k]))
            expected[index][:, k] = density.logpdf(samples.numpy()[index])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)
    prior = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    posterior = il.GaussianMixture.responsibilities(params, samples, prior).numpy()
    joint = np.exp(expected) * prior.numpy()
    np.testing.assert_allclose(
        posterior, joint / joint.sum(-1, keepdims=True), rtol=1e-9, atol=1e-12
    )
    alike = il.GaussianMixture.responsibilities(params, samples, torch.full((4,), 0.25).double())
    torch.testing.assert_close(il.GaussianMixture.responsibilities(params, samples), alike)


def test_in_turns_with_responsibilities_it_is_the_expectation_maximisation_of_scikit_learn():
    samples = torch.cat([normal(60, 2), normal(40, 2, seed=1) * 0.5 + 3])
    params = {"mean": samples[[0, -1]], "log_variance": torch.zeros(2, 2, dtype=torch.float64)}
    prior = torch.full((2,), 0.5, dtype=torch.float64)
    for _ in range(20):
        shares = il.GaussianMixture.responsibilities(params, samples, prior)
        prior = shares.mean(0)
        params = solved(il.Moments.of(samples, shares), 1e-3)
    reference = Reference(
        2,
        covariance_type="diag",
        reg_covar=1e-3,
        tol=0,
        max_iter=20,
        means_init=samples[[0, -1]].numpy(),
        precisions_init=np.ones((2, 2)),
        weights_init=[0.5, 0.5],
    )
    with pytest.warns(match="did not converge"):
        reference.fit(samples.numpy())
    np.testing.assert_allclose(params["mean"], reference.means_, rtol=1e-9)
    np.testing.assert_allclose(params["log_variance"].exp(), reference.covariances_, rtol=1e-9)
    posterior = il.GaussianMixture.responsibilities(params, samples, prior)
    np.testing.assert_allclose(posterior, reference.predict_proba(samples.numpy()), atol=1e-9)


@pytest.mark.parametrize("batch", BATCHES)
def test_moments_of_parts_add_up(batch):
    samples, assignments, _ = drawn(batch)
    whole = il.Moments.of(samples, assignments)
    parts = [il.Moments.of(samples[..., part, :], assignments[..., part, :]) for part in SPLITS]
    assert_same(parts[0] + parts[1] + parts[2], whole, rtol=1e-12, atol=1e-12)


SPLITS = [slice(0, 1), slice(1, 4), slice(4, None)]


def test_scaled_and_updated_moments_are_those_of_weighted_samples():
    samples, assignments, _ = drawn((2,))
    moments = il.Moments.of(samples, assignments)
    factor = torch.tensor([0.5, 3.0], dtype=torch.float64)
    weighted = il.Moments.of(samples, factor[:, None, None] * assignments)
    assert_same(moments.scaled(factor), weighted, rtol=1e-12, atol=1e-12)
    new = il.Moments.of(samples + 1, assignments)
    shares = torch.cat([0.7 * assignments, 0.3 * assignments], dim=-2)
    both = il.Moments.of(torch.cat([samples, samples + 1], dim=-2), shares)
    assert_same(moments.updated(new, 0.3), both, rtol=1e-12, atol=1e-12)


def test_a_mean_far_from_zero_costs_no_digits():
    samples, assignments, _ = drawn(count=200)
    far = 1000 + 0.01 * samples
    moments = il.Moments.of(far.float(), assignments.float())
    exact = il.Moments.of(far.float().double(), assignments.float().double())
    torch.testing.assert_close(moments.scatter.double(), exact.scatter, rtol=1e-2, atol=0)
    halves = [il.Moments.of(far[i::2].float(), assignments[i::2].float()) for i in (0, 1)]
    torch.testing.assert_close(
        (halves[0] + halves[1]).scatter.double(), exact.scatter, rtol=1e-2, atol=0
    )


def test_ten_thousand_updates_in_single_precision():
    samples, assignments, _ = drawn(count=4)
    moments = exact = None
    for step in range(10_000):
        new = il.Moments.of(samples + torch.sin(torch.tensor(0.01 * step)), assignments)
        exact = new if exact is None else exact.updated(new, 0.05)
        new = il.Moments(*(part.float() for part in new.state_dict().values()))
        moments = new if moments is None else moments.updated(new, 0.05)
    for name, tensor in exact.state_dict().items():
        torch.testing.assert_close(moments.state_dict()[name], tensor.float(), rtol=1e-4, atol=1e-5)


def test_a_component_without_samples_stays_where_it_was():
    samples, assignments, floor = drawn()
    assignments[:, 1] = 0
    moments = il.Moments.of(samples, assignments)
    problem = il.GaussianMixture(moments, floor)
    init = {name: normal(4, 3, seed=5).requires_grad_() for name in ("mean", "log_variance")}
    found = il.solve(problem, init, il.MaximumLikelihood()).value
    for name, tensor in found.items():
        assert torch.equal(tensor[1], init[name][1])
        (gradient,) = torch.autograd.grad(tensor.sum(), init[name])
        assert torch.equal(gradient, torch.eye(4, dtype=torch.float64)[1][:, None].expand(4, 3))
    later = moments + il.Moments.of(samples, assignments.flip(-1))
    assert later.weight.gt(0).all()
    assert all(part.isfinite().all() for part in later.state_dict().values())


def test_gradients_of_two_orders_through_streamed_moments():
    samples, assignments, floor = drawn(count=5, channels=2, components=2)

    def outer(samples, assignments, floor, rate):
        old = il.Moments.of(samples[:3], assignments[:3])
        new = il.Moments.of(samples[3:], assignments[3:])
        params = solved(old.updated(new, rate) + new.scaled(rate), floor)
        return il.GaussianMixture.responsibilities(params, samples)

    inputs = (samples, assignments, floor, torch.tensor(0.4, dtype=torch.float64))
    inputs = tuple(tensor.detach().requires_grad_() for tensor in inputs)
    assert torch.autograd.gradcheck(outer, inputs)
    assert torch.autograd.gradgradcheck(outer, inputs)


def test_transforms_see_moments_as_trees():
    samples, assignments, floor = drawn((3,))
    together = torch.func.vmap(il.Moments.of)(samples, assignments)
    assert_same(together, il.Moments.of(samples, assignments))

    def loss(samples):
        return solved(il.Moments.of(samples, assignments[0]), floor)["log_variance"].sum()

    one = samples[0].clone().requires_grad_()
    (expected,) = torch.autograd.grad(loss(one), one)
    torch.testing.assert_close(torch.func.grad(loss)(samples[0]), expected)
    again = pickle.loads(pickle.dumps(together))
    assert_same(again, together)
    assert not il.Moments.of(one, assignments[0]).detach().mean.requires_grad


def test_a_variance_of_zero_is_reported():
    moments = il.Moments.of(torch.ones(3, 2), torch.ones(3, 1))
    problem = il.GaussianMixture(moments)
    found = il.solve(problem, problem.start(), il.MaximumLikelihood(), throw=False)
    assert found.status >= il.Status.BREAKDOWN
    assert solved(moments, 0.5)["log_variance"].exp().eq(0.5).all()


MOMENTS = il.Moments.of(*drawn()[:2])


@pytest.mark.parametrize(
    ("message", "make"),
    [
        ("samples: shape", lambda: il.Moments.of(torch.ones(3), torch.ones(3, 1))),
        ("samples: torch.int64", lambda: il.Moments.of(torch.ones(3, 2).long(), torch.ones(3, 1))),
        ("samples: no channels", lambda: il.Moments.of(torch.ones(3, 0), torch.ones(3, 1))),
        ("assignments: shape", lambda: il.Moments.of(torch.ones(3, 2), torch.ones(4, 1))),
        ("assignments: shape", lambda: il.Moments.of(torch.ones(3, 2), torch.ones(3))),
        ("assignments: no channels", lambda: il.Moments.of(torch.ones(3, 2), torch.ones(3, 0))),
        ("assignments: -1.0", lambda: il.Moments.of(torch.ones(3, 2), -torch.ones(3, 1))),
        (
            "assignments: torch.float64",
            lambda: il.Moments.of(torch.ones(3, 2), torch.ones(3, 1).double()),
        ),
        ("weight: shape", lambda: il.Moments(torch.tensor(1.0), torch.ones(1), torch.ones(1))),
        ("mean: shape", lambda: il.Moments(torch.ones(2), torch.ones(3, 1), torch.ones(2, 1))),
        ("scatter: shape", lambda: il.Moments(torch.ones(2), torch.ones(2, 1), torch.ones(2, 2))),
        ("other: of components", lambda: MOMENTS + il.Moments.of(*drawn(channels=2)[:2])),
        ("factor: -1", lambda: MOMENTS.scaled(-1)),
        ("rate: 0", lambda: MOMENTS.updated(MOMENTS, 0)),
        ("regularization: -1", lambda: il.GaussianMixture(MOMENTS, -1)),
        ("regularization: shape", lambda: il.GaussianMixture(MOMENTS, torch.ones(4))),
        ("init: .*should be a dict", lambda: solve_from(torch.zeros(4, 3))),
        (r"init: \['mean'\]", lambda: solve_from({"mean": torch.zeros(4, 3)})),
        (r"init\['mean'\]: shape", lambda: solve_from(start(mean=torch.zeros(4, 2)))),
        (r"init\['mean'\]: torch.float32", lambda: solve_from(start(mean=torch.zeros(4, 3)))),
    ],
)
def test_bad_arguments_are_named(message, make):
    with pytest.raises(ValueError, match=f"^{message}"):
        make()


@pytest.mark.parametrize(
    ("message", "make"),
    [
        ("moments: Tensor", lambda: il.GaussianMixture(torch.ones(2))),
        ("regularization: str", lambda: il.GaussianMixture(MOMENTS, "little")),
        ("new: Tensor, should be Moments", lambda: MOMENTS.updated(torch.ones(2), 0.5)),
        ("samples: list", lambda: il.Moments.of([], torch.ones(3, 1))),
        ("solver: MaximumLikelihood solves GaussianMixture", lambda: solve_other()),
    ],
)
def test_arguments_of_another_type_are_named(message, make):
    with pytest.raises(TypeError, match=f"^{message}"):
        make()


def start(**change):
    return il.GaussianMixture(MOMENTS).start() | change


def solve_from(init):
    return il.solve(il.GaussianMixture(MOMENTS), init, il.MaximumLikelihood())


def solve_other():
    return il.solve(lambda p: p.square().sum(), torch.ones(2), il.MaximumLikelihood())
