"""Parameters as trees: a tensor, or any nesting of dicts, lists and tuples of tensors."""

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor

from innerloop._torch import pytree

Tree: TypeAlias = Any
"""A tensor, or any nesting of dicts, lists, tuples and named tuples of tensors."""

flatten = pytree.tree_flatten
unflatten = pytree.tree_unflatten


# Tensors, flat dicts and tuples are by far the most frequent trees; traversing others is slow.


def leaves(tree: Tree) -> list[Any]:
    """The leaves of a tree, in order."""
    if isinstance(tree, Tensor):
        return [tree]
    return list(tree.values()) if _is_flat_dict(tree) else pytree.tree_leaves(tree)


def tree_map(function: Callable[..., Any], tree: Tree, *others: Tree) -> Tree:
    """Apply `function` to corresponding leaves."""
    if isinstance(tree, Tensor):
        return function(tree, *others)
    if _is_flat_dict(tree) and all(_has_keys(other, tree) for other in others):
        return {
            key: function(leaf, *(other[key] for other in others)) for key, leaf in tree.items()
        }
    if _is_flat_tuple(tree) and all(type(other) is type(tree) for other in others):
        mapped = [function(*parts) for parts in zip(tree, *others, strict=True)]
        return tree._make(mapped) if hasattr(tree, "_make") else tuple(mapped)
    return pytree.tree_map(function, tree, *others)


def _is_flat_dict(tree: Tree) -> bool:
    return type(tree) is dict and all(isinstance(leaf, Tensor) for leaf in tree.values())


def _is_flat_tuple(tree: Tree) -> bool:
    # A tuple or a named tuple; torch's own structures are neither.
    plain = type(tree) is tuple or hasattr(tree, "_make")
    return plain and all(isinstance(leaf, Tensor) for leaf in tree)


def _has_keys(tree: Tree, other: dict[Any, Any]) -> bool:
    return type(tree) is dict and tree.keys() == other.keys()


def named_leaves(tree: Tree) -> list[tuple[str, Tensor]]:
    """Every leaf with its path, keys joined by dots: "layer.weight", "0.bias", "" for a tensor."""
    pairs = pytree.tree_flatten_with_path(tree)[0]
    return [(".".join(str(_key(entry)) for entry in path), leaf) for path, leaf in pairs]


def _key(entry: Any) -> Any:
    for attribute in ("key", "idx", "name"):
        if hasattr(entry, attribute):
            return getattr(entry, attribute)
    return entry


def same_structure(tree: Tree, other: Tree) -> bool:
    """Whether both nest in the same way, whatever their leaves."""
    return bool(pytree.tree_structure(tree) == pytree.tree_structure(other))


def leaves_like(name: str, tree: Tree, like: Tree) -> list[Any]:
    """The leaves of a tree in the order of those of `like`, which must have the same paths.

    Args:
        name: name of `tree` as an argument, for the message.

    Raises:
        ValueError: a leaf is missing, or there is one too many.
    """
    if same_structure(tree, like):
        return leaves(tree)
    found = dict(named_leaves(tree))
    expected = [path for path, _ in named_leaves(like)]
    missing = [path for path in expected if path not in found]
    unknown = [path for path in found if path not in set(expected)]
    if missing or unknown:
        wrong = f"lacks {missing}" if missing else f"has {unknown} as well"
        raise ValueError(f"{name}: {wrong}, should be structured like the parameters, {expected}")
    return [found[path] for path in expected]


def zeros_like(tree: Tree) -> Tree:
    return tree_map(torch.zeros_like, tree)


def detach(tree: Tree) -> Tree:
    return tree_map(torch.Tensor.detach, tree)


def add(tree: Tree, other: Tree) -> Tree:
    return tree_map(torch.add, tree, other)


def negative(tree: Tree) -> Tree:
    return tree_map(torch.neg, tree)


def per_problem(values: Tensor, leaf: Tensor) -> Tensor:
    """`values`, one per problem or one for all, in the dtype of `leaf` and broadcasting over it."""
    return values.to(leaf.dtype).reshape((*values.shape, *(1,) * (leaf.ndim - values.ndim)))


def scale(values: Tensor, tree: Tree) -> Tree:
    """Multiply every problem's part of `tree` by its entry of `values` (shape () or batch)."""
    return tree_map(lambda leaf: per_problem(values, leaf) * leaf, tree)


def add_scaled(tree: Tree, values: Tensor, direction: Tree) -> Tree:
    """`tree + values * direction` with one value per problem."""
    return tree_map(lambda a, b: torch.addcmul(a, per_problem(values, b), b), tree, direction)


def dot(tree: Tree, other: Tree, batch_dims: int) -> Tensor:
    """Inner product over everything but the leading `batch_dims` axes."""
    products = [
        (a * b).flatten(batch_dims).sum(-1) if a.ndim > batch_dims else a * b
        for a, b in zip(leaves(tree), leaves(other), strict=True)
    ]
    return torch.stack(products).sum(0) if len(products) > 1 else products[0]


def ravel(tree: Tree, batch_dims: int) -> Tensor:
    """All leaves side by side, shape (*batch, count)."""
    return torch.cat([leaf.unsqueeze(-1).flatten(batch_dims) for leaf in leaves(tree)], -1)


def unravel(vector: Tensor, like: Tree, batch_dims: int) -> Tree:
    """Undo `ravel`, with the shapes and dtypes of `like`."""
    parts, spec = flatten(like)
    sizes = [part.shape[batch_dims:].numel() for part in parts]
    pieces = torch.split(vector, sizes, -1)
    pairs = zip(pieces, parts, strict=True)
    return unflatten([piece.reshape(p.shape).to(p.dtype) for piece, p in pairs], spec)
