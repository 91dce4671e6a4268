"""Weight files of RVOS, which describe their network."""

from pathlib import Path
from typing import Any, Final

from torch import Tensor

from innerloop_vos import weight_files as files
from innerloop_vos.backbones.folded import folded_backbone, released_tensors, without_released
from innerloop_vos.rvos.model.decoder import RECURRENCES
from innerloop_vos.rvos.model.network import RVOS
from innerloop_vos.weight_files.sizes import WIDTH, Check, one_of, several

STRIDE: Final = 32
"""Of the backbone's last level."""

_BUILDER = "rvos"
_SIZES: dict[str, Check] = {"widths": several(4, WIDTH), "recurrence": one_of(*RECURRENCES)}


def save_rvos(network: RVOS, path: str | Path) -> None:
    """Write a network's weights in half precision, with what is needed to build it again.

    A backbone that is as the package has it is left out.

    Args:
        network: as the builder made it.
        path: a file that ends in `.safetensors`.

    Raises:
        InputError: the path ends otherwise, or the file cannot be written.
    """
    kept, own = without_released(network.state_dict())
    recipe = {"builder": _BUILDER, "sizes": network.sizes, "own_backbone": own}
    files.write_network(path, {name: files.halved(x) for name, x in kept.items()}, recipe)


def load_rvos(path: str | Path) -> RVOS:
    """Build the network that a file of `save_rvos` describes, with its weights.

    Args:
        path: the file.

    Returns:
        The network in evaluation mode, float32, on the CPU.

    Raises:
        InputError: the file is missing, unreadable, or was not written by `save_rvos`; or the
            package with the backbone's weights is missing.
    """
    kind = files.Kind("RVOS", _build, _SIZES, "innerloop-vos train rvos", _elsewhere)
    return files.load_network(path, kind).eval()


def _build(recipe: files.Recipe) -> RVOS:
    def build(**sizes: Any) -> RVOS:
        return RVOS(folded_backbone(None, STRIDE), **sizes)

    return files.builder_in(recipe, {_BUILDER: build})(**recipe["sizes"])


def _elsewhere(recipe: files.Recipe) -> dict[str, Tensor]:
    return {} if recipe.get("own_backbone") else released_tensors()
