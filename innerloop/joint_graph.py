"""What is changed in the joint graph of a forward and a backward pass, before they are parted."""

import torch
from torch import Tensor, fx
from torch._inductor.custom_graph_pass import CustomGraphPass, get_hash_for_files
from torch.utils.checkpoint import CheckpointPolicy

_SMALL = 4096
"""Values of a tensor that costs nothing to keep, such as statistics of channels."""

_COSTLY = {f"aten::{name}" for name in ("convolution", "mm", "addmm", "bmm", "baddbmm")}
_REDUCTIONS = (torch.ops.aten.sum.dim_IntList, torch.ops.aten.mean.dim)


class JointGraphPass(CustomGraphPass):
    """Let inductor make fewer and shorter passes over memory."""

    def __call__(self, graph: fx.Graph) -> None:
        for node in list(graph.nodes):
            _reduce_rows_first(node)
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


def _keep_what_is_costly(node: fx.Node) -> None:
    """Let the backward pass compute a large tensor again, unless it took long.

    What lies between convolutions and products is fused into a pass over memory, which takes less
    time than to write it down and read it again, and half of the memory.
    """
    value = node.meta.get("val")
    if (
        isinstance(node.target, torch._ops.OpOverload)
        and isinstance(value, Tensor)
        and value.numel() > _SMALL
        and node.target._schema.name not in _COSTLY
        and torch.Tag.nondeterministic_seeded not in node.target.tags
    ):
        node.meta["recompute"] = CheckpointPolicy.MUST_RECOMPUTE
