"""ConvLeastSquares against plain convolution and autograd."""

import pytest
import torch
from torch.nn import functional as F

import innerloop as il


def problem_tensors(batch=(), frames=2, channels=5, outputs=3, size=(6, 7), kernel=3, seed=0):
    make = torch.Generator().manual_seed(seed)
    height, width = size

    def normal(*shape):
        return torch.randn(*shape, generator=make, dtype=torch.float64)

    features = normal(*batch, frames, channels, height, width)
    targets = normal(*batch, frames, outputs, height, width)
    weights = normal(*batch, frames, outputs, height, width)
    params = normal(*batch, outputs, channels, kernel, kernel)
    return features, targets, weights, params


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_predict_is_cross_correlation(kernel):
    features, targets, _, params = problem_tensors(batch=(2,), kernel=kernel)
    prediction = il.ConvLeastSquares(features, targets).predict(params)
    for b in range(2):
        expected = F.conv2d(features[b], params[b], padding=kernel // 2)
        torch.testing.assert_close(prediction[b], expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
@pytest.mark.parametrize("weighting", ["none", "frame", "shared", "full"])
def test_gradient_and_curvature_are_those_of_the_loss(batch, weighting):
    features, targets, weights, params = problem_tensors(batch=batch)
    chosen = {
        "none": None,
        "frame": weights[..., 0, 0, 0],
        "shared": weights[..., :1, :, :],
        "full": weights,
    }[weighting]
    problem = il.ConvLeastSquares(features, targets, chosen, regularization=0.3)
    params.requires_grad_()
    loss = problem.loss(params)
    assert loss.shape == batch
    (expected,) = torch.autograd.grad(loss.sum(), params, create_graph=True)
    gradient = problem.gradient(params, problem.predict(params))
    torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=1e-12)

    direction = torch.randn_like(params)
    (hessian_direction,) = torch.autograd.grad((expected * direction).sum(), params)
    torch.testing.assert_close(
        problem.curvature(direction, problem.predict(direction)),
        problem.dot(direction, hessian_direction),
        rtol=1e-12,
        atol=1e-12,
    )


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("features", lambda d: d.update(features=d["features"][0])),
        ("features", lambda d: d.update(features=d["features"].long())),
        ("targets", lambda d: d.update(targets=d["targets"][..., :-1])),
        ("targets", lambda d: d.update(targets=d["targets"].float())),
        ("weights", lambda d: d.update(weights=d["weights"][:, :2])),
        ("weights", lambda d: d.update(weights=torch.ones(3, dtype=torch.float64))),
        ("regularization", lambda d: d.update(regularization=-1.0)),
        ("regularization", lambda d: d.update(regularization=float("nan"))),
        ("regularization", lambda d: d.update(regularization=torch.ones(4))),
    ],
)
def test_bad_arguments_are_named(name, change):
    features, targets, weights, _ = problem_tensors()
    arguments = {"features": features, "targets": targets, "weights": weights}
    change(arguments)
    with pytest.raises(ValueError, match=f"^{name}: "):
        il.ConvLeastSquares(**arguments)


@pytest.mark.parametrize("shape", [(3, 5, 3), (3, 4, 3, 3), (3, 5, 2, 2), (3, 5, 3, 1)])
def test_init_of_another_shape_is_refused(shape):
    features, targets, _, _ = problem_tensors()
    problem = il.ConvLeastSquares(features, targets)
    with pytest.raises(ValueError, match=r"^init: shape .* should be"):
        il.solve(problem, torch.zeros(shape, dtype=torch.float64), il.SteepestDescent())


@pytest.mark.parametrize("name", ["targets", "weights"])
@pytest.mark.parametrize("kind", [il.LinearLeastSquares, il.LogisticRegression])
def test_data_of_another_dtype_are_named(kind, name):
    tensors = {"features": torch.rand(4, 3), "targets": torch.rand(4, 2), "weights": torch.rand(4)}
    tensors[name] = tensors[name].double()
    with pytest.raises(ValueError, match=f"^{name}: torch.float64 on cpu, should be torch.float32"):
        kind(*tensors.values())


@pytest.mark.parametrize("kind", [il.LinearLeastSquares, il.LogisticRegression])
def test_a_start_of_another_dtype_is_named(kind):
    problem, init = kind(torch.rand(4, 3), torch.rand(4, 2)), torch.zeros(2, 3).double()
    with pytest.raises(ValueError, match=r"^init: torch.float64 on cpu, should be torch.float32"):
        il.solve(problem, init, il.GradientDescent(0.1))
