"""Changes of the joint graph of a forward and a backward pass, before it is partitioned.

The figures are as in `rewriting`.
"""

import torch
from torch import Tensor, fx
from torch.utils.checkpoint import CheckpointPolicy

from innerloop._torch import CustomGraphPass, OpOverload, get_hash_for_files

aten = torch.ops.aten

_SMALL = 4096
"""Max size of a tensor that costs nothing to keep, such as statistics per channel."""

_COSTLY = {f"aten::{name}" for name in ("convolution", "mm", "addmm", "bmm", "baddbmm")}


class JointGraphPass(CustomGraphPass):
    """Lets inductor make fewer and shorter passes over memory."""

    def __call__(self, graph: fx.Graph) -> None:
        for node in list(graph.nodes):
            _numbers_for_booleans(node)
        for node in graph.nodes:
            _keep_what_is_costly(node)

    def uuid(self) -> object:
        return get_hash_for_files((__file__,))


def _numbers_for_booleans(node: fx.Node) -> None:
    """Mark the max values by 1 and 0: booleans are slow to store and to load, 2.3."""
    if node.target != aten.eq.Tensor or not isinstance(node.args[0], fx.Node):
        return
    dtype = node.args[0].meta["val"].dtype
    counts = [user for user in node.users if user.target == aten.sum.dim_IntList]
    factors = [user for user in node.users if user.target == aten.mul.Tensor]
    as_in_amax = len(counts) + len(factors) == len(node.users) and all(
        user.target == aten.div.Tensor for count in counts for user in count.users
    )
    if not as_in_amax or not dtype.is_floating_point:
        return
    with node.graph.inserting_after(node):
        number = node.graph.call_function(
            torch.ops.prims.convert_element_type.default, (node, dtype)
        )
    number.meta = {**node.meta, "val": node.meta["val"].to(dtype)}
    for user in (*counts, *factors):
        user.replace_input_with(node, number)
    for count in counts:
        count.meta["val"] = count.meta["val"].to(dtype)


def _keep_what_is_costly(node: fx.Node) -> None:
    """Let the backward pass compute a large tensor again, unless that is slow.

    The operations between convolutions and products are fused into one pass over memory, which
    takes less time than storing and reading the tensor, and half the memory: 2.1.
    """
    value = node.meta.get("val")
    if (
        isinstance(node.target, OpOverload)
        and isinstance(value, Tensor)
        and value.numel() > _SMALL
        and node.target._schema.name not in _COSTLY
        and torch.Tag.nondeterministic_seeded not in node.target.tags
    ):
        node.meta["recompute"] = CheckpointPolicy.MUST_RECOMPUTE
