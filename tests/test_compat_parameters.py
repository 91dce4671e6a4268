"""Complex parameters, and sparse gradients and parameters, in both compatible layers."""

import pytest
import torch
from test_compat_higher import BEYOND, OPTIMIZERS
from torch import nn

import innerloop.compat.learn2learn as l2l
from innerloop.compat import higher

ALL = {**OPTIMIZERS, **BEYOND}
WORDS = torch.tensor([0, 2, 2, 4])


def randn(*shape, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


class Spectral(nn.Module):
    """A filter of complex weights, which are kept as such or as pairs of real numbers."""

    def __init__(self, pairs):
        super().__init__()
        weight = randn(3, 2, dtype=torch.complex128)
        self.weight = nn.Parameter(torch.view_as_real(weight) if pairs else weight)
        self.bias = nn.Parameter(randn(2))

    def forward(self):
        weight = self.weight
        weight = weight if weight.is_complex() else torch.view_as_complex(weight)
        response = randn(4, 3, dtype=torch.complex128) @ weight
        return (response.real.sin() + response.abs() + self.bias).square().mean()


class Words(nn.Module):
    """An embedding, whose gradients are sparse or dense."""

    def __init__(self, dense):
        super().__init__()
        self.table = nn.Embedding.from_pretrained(randn(5, 3), freeze=False, sparse=not dense)
        self.weight = nn.Parameter(randn(3))

    def forward(self):
        return (self.table(WORDS).sin() @ self.weight - 1).square().mean()


class Graph(nn.Module):
    """A product with a sparse matrix that trains."""

    def __init__(self):
        super().__init__()
        self.edges = nn.Parameter(torch.eye(3).to_sparse())
        self.bias = nn.Parameter(torch.zeros(2))


def same(model, reference, run):
    """The run gives both models the same meta-gradients, whatever their parameters are."""
    for module in (model, reference):
        run(module).backward()
    for p, q in zip(model.parameters(), reference.parameters(), strict=True):
        found = torch.view_as_real(p.grad) if p.is_complex() else p.grad.to_dense()
        torch.testing.assert_close(found, q.grad, rtol=1e-11, atol=1e-12)
        assert q.grad.abs().max() > 1e-3


@pytest.mark.parametrize("kind", [Spectral, Words])
@pytest.mark.parametrize("optimizer", ALL)
def test_higher(kind, optimizer):
    optim, settings = ALL[optimizer]

    def run(model):
        opt = optim(model.parameters(), **settings)
        with higher.innerloop_ctx(model, opt, copy_initial_weights=False) as (fmodel, diffopt):
            for _ in range(3):
                diffopt.step(fmodel())
            return fmodel()

    same(kind(False), kind(True), run)


@pytest.mark.parametrize("optimizer", ALL)
def test_the_state_of_complex_parameters_is_taken_over(optimizer):
    kind, settings = ALL[optimizer]
    model = Spectral(pairs=False)
    opt = kind(model.parameters(), **settings)
    for _ in range(2):
        opt.zero_grad()
        model().backward()
        opt.step()
    with higher.innerloop_ctx(model, opt, track_higher_grads=False) as (fmodel, diffopt):
        for _ in range(2):
            diffopt.step(fmodel())
            opt.zero_grad()
            model().backward()
            opt.step()
    for p, q in zip(fmodel.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(p, q.detach(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("kind", [Spectral, Words])
@pytest.mark.parametrize("name", ["MAML", "MetaSGD"])
@pytest.mark.parametrize("first_order", [False, True])
def test_learn2learn(kind, name, first_order):
    def run(model):
        clone = getattr(l2l.algorithms, name)(model, lr=0.1, first_order=first_order).clone()
        for _ in range(3):
            clone.adapt(clone())
        return clone()

    same(kind(False), kind(True), run)


def test_transforms_of_sparse_gradients():
    def run(model):
        def transform(param):
            return l2l.optim.ModuleTransform(nn.Linear)(param).double()

        torch.manual_seed(0)
        clone = l2l.algorithms.GBML(model, transform, lr=0.1, adapt_transform=True).clone()
        for _ in range(3):
            clone.adapt(clone())
        return clone()

    same(Words(False), Words(True), run)


@pytest.mark.parametrize(
    "wrap",
    [
        higher.monkeypatch,
        l2l.clone_module,
        lambda model: l2l.algorithms.MAML(model, lr=0.1),
        l2l.algorithms.MetaSGD,
        lambda model: l2l.algorithms.GBML(model, l2l.optim.ModuleTransform(nn.Linear)),
        lambda model: l2l.optim.LearnableOptimizer(model, l2l.optim.ModuleTransform(nn.Linear)),
    ],
)
def test_sparse_parameters_are_refused_by_name(wrap):
    with pytest.raises(ValueError, match=r"^edges: torch.sparse_coo, should be dense"):
        wrap(Graph())


def test_sparse_tensors_are_refused_by_number():
    params = list(Graph().parameters())
    with pytest.raises(ValueError, match=r"^parameters\[0\]: torch.sparse_coo, should be dense"):
        l2l.optim.ParameterUpdate(params, l2l.optim.ModuleTransform(nn.Linear))
    with pytest.raises(ValueError, match=r"^reference_params\[0\]: torch.sparse_coo, should be"):
        higher.create_diff_optim(torch.optim.SGD, {"lr": 0.1}, params)


def test_sparse_parameters_that_rest_are_left_alone():
    model = Graph()
    model.edges.requires_grad_(False)
    assert higher.monkeypatch(model).edges.is_sparse
    assert l2l.algorithms.MAML(model, lr=0.1).clone().module.edges.is_sparse
