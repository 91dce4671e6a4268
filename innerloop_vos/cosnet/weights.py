"""Weight files of COSNet, which describe their network."""

from pathlib import Path
from typing import Any

import torch

from innerloop_vos import weight_files as files
from innerloop_vos.backbones.folded import folded_backbone, released_tensors
from innerloop_vos.cosnet.model.network import FORMS, COSNet
from innerloop_vos.weight_files.sizes import Check, one_of, whole

_BUILDER = "cosnet"
_SIZES: dict[str, Check] = {"co_attention": one_of(*FORMS), "channels": whole(2, 2**12)}


def save_cosnet(network: COSNet, path: str | Path) -> None:
    """Write a network's weights in half precision, with what is needed to build it again.

    Tensors of the backbone that are as the package has them are left out.

    Args:
        network: as the builder made it.
        path: a file that ends in `.safetensors`.

    Raises:
        InputError: the path ends otherwise, or the file cannot be written.
    """
    released = released_tensors()
    kept = {
        name: files.halved(tensor)
        for name, tensor in network.state_dict().items()
        if name not in released or not torch.equal(tensor.cpu(), released[name])
    }
    files.write_network(path, kept, {"builder": _BUILDER, "sizes": network.sizes})


def load_cosnet(path: str | Path) -> COSNet:
    """Build the network that a file of `save_cosnet` describes, with its weights.

    Args:
        path: the file.

    Returns:
        The network in evaluation mode, float32, on the CPU.

    Raises:
        InputError: the file is missing, unreadable, or was not written by `save_cosnet`; or the
            package with the backbone's weights is missing.
    """
    kind = files.Kind(
        "COSNet", _build, _SIZES, "innerloop-vos train cosnet", lambda recipe: released_tensors()
    )
    return files.load_network(path, kind).eval()


def _build(recipe: files.Recipe) -> COSNet:
    def build(**sizes: Any) -> COSNet:
        return COSNet(folded_backbone(None), **sizes)

    return files.builder_in(recipe, {_BUILDER: build})(**recipe["sizes"])
