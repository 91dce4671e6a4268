"""Weight files of LWL-lite, which describe their network."""

from pathlib import Path

from innerloop_vos import weight_files as files
from innerloop_vos.lwl_lite.builders import lwl_lite
from innerloop_vos.lwl_lite.model.network import LWLLite
from innerloop_vos.weight_files.sizes import WIDTH, Check

_SIZES: dict[str, Check] = {"features": WIDTH, "outputs": WIDTH}


def save_lwl_lite(network: LWLLite, path: str | Path) -> None:
    """Write a network's weights in half precision, with what is needed to build it again.

    Args:
        network: as the builder made it.
        path: a file that ends in `.safetensors`.

    Raises:
        InputError: the path ends otherwise, or the file cannot be written.
    """
    halved = {name: tensor.half() for name, tensor in network.state_dict().items()}
    files.write_network(path, halved, {"builder": lwl_lite.__name__, "sizes": network.sizes})


def load_lwl_lite(path: str | Path) -> LWLLite:
    """Build the network that a file of `save_lwl_lite` describes, with its weights.

    Args:
        path: the file.

    Returns:
        The network in evaluation mode, float32, on the CPU.

    Raises:
        InputError: the file is missing, unreadable, or was not written by `save_lwl_lite`.
    """
    kind = files.Kind("LWL-lite", _build, _SIZES, "innerloop-vos train lwl-lite")
    return files.load_network(path, kind).eval()


def _build(recipe: files.Recipe) -> LWLLite:
    return files.builder_in(recipe, {lwl_lite.__name__: lwl_lite})(**recipe["sizes"])
