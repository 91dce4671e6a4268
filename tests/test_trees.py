"""Trees: flat dicts take a short way that ends where the long one does."""

import pytest
import torch

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
