"""Trees: flat dicts take a short way that ends where the long one does."""

import pytest
import torch

import innerloop as il
from innerloop import trees


def test_flat_dicts_are_mapped_as_nested_ones():
    a, b = {"x": torch.ones(2), "y": torch.zeros(())}, {"y": torch.ones(()), "x": torch.ones(2)}
    flat, nested = (trees.tree_map(torch.add, *pair) for pair in ((a, b), ([a], [b])))
    assert list(flat) == list(nested[0]) == ["x", "y"]
    assert all(flat[name].equal(nested[0][name]) for name in flat)
    assert all(p is q for p, q in zip(trees.leaves(a), trees.leaves([a]), strict=True))


@pytest.mark.parametrize("other", [{"x": torch.ones(2)}, [torch.ones(2)], torch.ones(2)])
def test_trees_that_do_not_correspond_are_refused(other):
    tree = {"x": torch.ones(2), "y": torch.ones(2)}
    with pytest.raises(ValueError, match="mismatch"):
        trees.tree_map(torch.add, tree, other)


@pytest.mark.parametrize(
    "solver",
    [
        il.GradientDescent(0.1).transformed(il.ClipNorm(0.1)),
        il.BFGS(),
        il.LBFGS(),
        il.NonlinearConjugateGradient(),
        il.TrustRegion(),
        il.TrustRegion(il.Dogleg()),
        il.Newton(linear_solver=il.Exact()),
    ],
    ids=lambda solver: type(solver).__name__,
)
def test_parameters_of_several_precisions_keep_theirs(solver):
    init = {"a": torch.ones(2), "b": torch.full((3,), 2.0, dtype=torch.float64)}
    solution = il.solve(
        lambda p: p["a"].double().square().sum() + p["b"].square().sum(), init, solver, steps=3
    )
    assert {name: leaf.dtype for name, leaf in solution.value.items()} == {
        "a": torch.float32,
        "b": torch.float64,
    }
    assert solution.stats.losses[-1] < solution.stats.losses[0]
