"""Learned rates, and the released e-OSVOS inner and outer optimisation."""

import numpy as np
import pytest
import torch
from shared import SHARED, needs_shared
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

import innerloop as il

GOLDENS = SHARED / "reference" / "goldens"


def small_net():
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.ConvTranspose2d(3, 4, 2), nn.LayerNorm(5)).double()


@pytest.mark.parametrize(
    ("per", "shapes"),
    [
        ("tensor", {"0.weight": (), "1.weight": (), "2.bias": ()}),
        ("neuron", {"0.weight": (3, 1, 1, 1), "1.weight": (3, 1, 1, 1), "2.bias": (5,)}),
        ("parameter", {"0.weight": (3, 2, 3, 3), "1.weight": (3, 4, 2, 2), "2.bias": (5,)}),
    ],
)
@pytest.mark.parametrize("per_step", [None, 3])
def test_shapes(per, shapes, per_step):
    rates = il.LearningRates(small_net(), per=per, init=0.02, per_step=per_step)
    for step in (0, 2, 7):
        for name, shape in shapes.items():
            assert rates(step)[name].shape == shape
            assert (rates(step)[name] == 0.02).all()


def test_neurons_of_a_transposed_convolution_are_selectable():
    rates = il.LearningRates(small_net(), per="neuron", transposed_axis=1)
    assert rates()["1.weight"].shape == (1, 4, 1, 1)
    assert rates()["0.weight"].shape == (3, 1, 1, 1)


def test_a_rate_for_the_model_and_rates_for_a_tensor_alone():
    assert il.LearningRates(small_net(), per="model")().shape == ()
    assert il.LearningRates(torch.ones(2, 3), per="neuron")().shape == (2, 1)


def test_every_step_has_its_own_rate_and_gradient():
    init = {"w": torch.tensor([1.0, 2.0], dtype=torch.float64)}
    rates = il.LearningRates(init, per="tensor", init=0.1, per_step=2)
    with torch.no_grad():
        rates.get_parameter("w")[1] = 0.3
    value = il.solve(lambda p: (p["w"] ** 2).sum() / 2, init, il.GradientDescent(rates), steps=2)
    torch.testing.assert_close(value.value["w"], init["w"] * 0.9 * 0.7)
    value.value["w"].sum().backward()
    expected = torch.tensor([-0.7, -0.9]) * init["w"].sum()
    torch.testing.assert_close(rates.get_parameter("w").grad, expected.double())


@pytest.mark.parametrize("per_step", [None, 3])
@pytest.mark.parametrize("per", ["model", "tensor", "neuron", "parameter"])
def test_first_order_gradients_of_rates(per, per_step):
    init = {"w": torch.randn(3, 2).double(), "b": torch.randn(3).double()}
    rates = il.LearningRates(init, per=per, init=0.1, per_step=per_step)
    parameters = list(rates.parameters())

    class Constant(il.GradientDescent):
        """The same first-order gradient from the graph of the steps."""

        def update(self, gradient, memory, step):
            return super().update({k: g.detach() for k, g in gradient.items()}, memory, step)

    def outer(solver, adjoint):
        loss = lambda p: torch.cosh(p["w"]).sum() + (p["b"] ** 4).sum()  # noqa: E731
        value = il.solve(loss, init, solver, steps=5, adjoint=adjoint).value
        return value["w"].sum() + value["b"].square().sum()

    flat = torch.autograd.grad(outer(il.GradientDescent(rates), il.FirstOrder()), parameters)
    graph = torch.autograd.grad(outer(Constant(rates), il.Unroll()), parameters)
    torch.testing.assert_close(flat, graph)


def test_clamp_and_report():
    rates = il.LearningRates(small_net(), per="neuron", init=0.1, minimum=0.01)
    with torch.no_grad():
        rates.get_parameter("0-weight")[0] = -1.0
    rates.clamp_()
    row = rates.report()["0.weight"]
    assert row.minimum == pytest.approx(0.01)
    assert row.frozen == pytest.approx(1 / 3)
    assert row.maximum == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("message", "options"),
    [
        ("^per: 'layer'", {"per": "layer"}),
        ("^per_step: 0", {"per_step": 0}),
        ("^minimum: -1", {"minimum": -1.0}),
    ],
)
def test_bad_arguments_are_named(message, options):
    with pytest.raises(ValueError, match=message):
        il.LearningRates(small_net(), **options)


class EOSVOSNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.GroupNorm(4, 8),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, stride=2, padding=1, bias=False),
            nn.ReLU(),
        )
        self.head = nn.Sequential(
            nn.ConvTranspose2d(8, 6, 2, stride=2), nn.ReLU(), nn.Conv2d(6, 1, 1)
        )

    def forward(self, x):
        return self.head(self.enc(x))


class SecondOrderHead(il.GradientDescent):
    """Second derivatives for the head alone."""

    def update(self, gradient, memory, step):
        kept = {k: g if k.startswith("head") else g.detach() for k, g in gradient.items()}
        return super().update(kept, memory, step)


@needs_shared
@pytest.mark.parametrize(
    ("order", "adjoint"),
    [
        ("fo", il.FirstOrder()),
        ("so", il.Unroll()),
        ("so", il.Unroll(checkpoint=2)),
    ],
)
@pytest.mark.parametrize("level", ["NEURON", "TENSOR"])
def test_eosvos_golden(level, order, adjoint):
    arrays = {k: torch.from_numpy(v) for k, v in np.load(GOLDENS / "eosvos_meta.npz").items()}
    net = EOSVOSNet()
    names = [name for name, _ in net.named_parameters()]
    init = {
        n: arrays[f"{level}.start.model_init_{n.replace('.', '-')}"].clone().requires_grad_()
        for n in names
    }
    rates = il.LearningRates(init, per=level.lower())
    shared = None
    with torch.no_grad():
        for row, name in enumerate(names):
            key = name.replace(".", "-")
            if level == "NEURON":
                start = arrays[f"NEURON.start.log_init_lr_{key}"]
            else:
                (shared,) = (k for k in arrays if k.startswith("TENSOR.start.log_init_lr"))
                start = arrays[shared][row]
            parameter = rates.get_parameter(key)
            parameter.copy_(start.reshape(parameter.shape))

    def loss(params, x, y):
        return F.binary_cross_entropy_with_logits(functional_call(net, params, x), y)

    solver = il.GradientDescent(rates) if order == "fo" else SecondOrderHead(rates)
    solution = il.solve(
        lambda p: loss(p, arrays["xt"], arrays["yt"]), init, solver, steps=5, adjoint=adjoint
    )
    meta_loss = loss(solution.value, arrays["xm"], arrays["ym"])
    meta_loss.backward()

    def golden(key):
        return arrays[f"{level}.{order}.{key}"]

    def close(actual, expected):
        expected = expected.reshape(actual.shape).to(actual)
        torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-6)

    close(solution.stats.losses, golden("train_losses"))
    close(meta_loss.detach(), golden("meta_loss"))
    for row, name in enumerate(names):
        key = name.replace(".", "-")
        close(solution.value[name].detach(), golden(f"final.{name}"))
        close(init[name].grad, golden(f"grad.model_init_{key}"))
        gradient = rates.get_parameter(key).grad
        if level == "NEURON":
            close(gradient, golden(f"grad.log_init_lr_{key}"))
        else:
            close(gradient, golden(shared.replace("TENSOR.start", "grad"))[row])


@needs_shared
def test_radam_of_torch_is_the_released_outer_optimizer():
    arrays = {k: torch.from_numpy(v) for k, v in np.load(GOLDENS / "radam.npz").items()}
    a, b = (nn.Parameter(arrays[k].clone()) for k in ("a0", "b0"))
    outer = torch.optim.RAdam(
        [{"params": [a], "weight_decay": 1e-3}, {"params": [b], "weight_decay": 0.0}],
        lr=0.01,
        decoupled_weight_decay=True,
    )
    for step in range(12):
        a.grad, b.grad = arrays[f"ga{step}"], arrays[f"gb{step}"]
        outer.step()
        torch.testing.assert_close(a.detach(), arrays[f"a{step + 1}"], rtol=2e-6, atol=2e-6)
        torch.testing.assert_close(b.detach(), arrays[f"b{step + 1}"], rtol=2e-6, atol=2e-6)
