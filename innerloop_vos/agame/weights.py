"""Weight files of A-GAME, which describe their network."""

from pathlib import Path
from typing import Any

from torch import Tensor

from innerloop_vos import weight_files as files
from innerloop_vos.agame.model.network import AGAME
from innerloop_vos.backbones.folded import folded_backbone, released_tensors, without_released
from innerloop_vos.weight_files.sizes import WIDTH, Check, one_of

_BUILDER = "agame"
_SIZES: dict[str, Check] = {
    "features": WIDTH,
    "components": one_of(0, 2, 4),
    "propagation": one_of(False, True),
}


def save_agame(network: AGAME, path: str | Path) -> None:
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


def load_agame(path: str | Path) -> AGAME:
    """Build the network that a file of `save_agame` describes, with its weights.

    Args:
        path: the file.

    Returns:
        The network in evaluation mode, float32, on the CPU.

    Raises:
        InputError: the file is missing, unreadable, or was not written by `save_agame`; or the
            package with the backbone's weights is missing.
    """
    kind = files.Kind("A-GAME", _build, _SIZES, "innerloop-vos train a-game", _elsewhere)
    return files.load_network(path, kind).eval()


def _build(recipe: files.Recipe) -> AGAME:
    def build(**sizes: Any) -> AGAME:
        return AGAME(folded_backbone(None), **sizes)

    return files.builder_in(recipe, {_BUILDER: build})(**recipe["sizes"])


def _elsewhere(recipe: files.Recipe) -> dict[str, Tensor]:
    return {} if recipe.get("own_backbone") else released_tensors()
