"""What is changed in the joint graph of a forward and a backward pass, before they are parted."""

import torch
from torch import Tensor, fx
from torch.utils.checkpoint import CheckpointPolicy

from innerloop.compile._torch import CustomGraphPass, OpOverload, get_hash_for_files

aten = torch.ops.aten

_SMALL = 4096
"""Values of a tensor that costs nothing to keep, such as statistics of channels."""

_COSTLY = {f"aten::{name}" for name in ("convolution", "mm", "addmm", "bmm", "baddbmm")}
_REDUCTIONS = (aten.sum.dim_IntList, aten.mean.dim)


class JointGraphPass(CustomGraphPass):
    """Let inductor make fewer and shorter passes over memory."""

    def __call__(self, graph: fx.Graph) -> None:
        for node in list(graph.nodes):
            _reduce_rows_first(node)
            _numbers_for_booleans(node)
        for node in graph.nodes:
            _keep_what_is_costly(node)

    def uuid(self) -> object:
        return get_hash_for_files((__file__,))


def _reduce_rows_first(node: fx.Node) -> None:
    """Reduce over batch and image in two stages, the first of which stays in the nearest cache.

    Inductor goes over the whole of a tensor in channels-last order once for every few channels.
    """
    if node.target not in _REDUCTIONS or node.kwargs:
        return
    input, axes, *keep = node.args
    if not isinstance(input, fx.Node) or not isinstance(axes, list) or set(axes) != {0, 2, 3}:
        return
    value = input.meta["val"]
    if value.ndim != 4 or value.device.type != "cpu":
        return
    with node.graph.inserting_before(node):
        rows = node.graph.call_function(node.target, (input, [3], True))
    rows.meta = {**node.meta, "val": node.target(value, [3], True)}
    node.args = (rows, axes, *keep)


def _numbers_for_booleans(node: fx.Node) -> None:
    """Mark the max values by 1 and 0: booleans are slow to store and to load."""
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
    """Let the backward pass compute a large tensor again, unless it took long.

    What lies between convolutions and products is fused into a pass over memory, which takes less
    time than to write it down and read it again, and half of the memory.
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
