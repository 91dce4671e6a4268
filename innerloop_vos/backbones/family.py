"""The networks of a method on the folded backbone: how they are built, and their weight files."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import nn

from innerloop.errors import InputError
from innerloop_vos import weight_files as files
from innerloop_vos.backbones.folded import Stride, folded_backbone, released_tensors
from innerloop_vos.weight_files.sizes import Check

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class Family(Generic[Network]):
    """The networks of a method that have the folded backbone as their `backbone`.

    Args:
        method: its name, for messages.
        package: that the method lives in; its last part names the networks in weight files, and
            the file that ships.
        command: that trains one and writes its weights.
        network: makes one of a backbone and sizes; the network has these as its `sizes`.
        sizes: the checks of the sizes that a file gives, by name.
        stride: of the backbone's last level. Default 16.
    """

    method: str
    package: str
    command: str
    network: Callable[..., Network]
    sizes: Mapping[str, Check]
    stride: Stride = 16

    @property
    def builder(self) -> str:
        """The name of the networks in weight files."""
        return self.package.rpartition(".")[2]

    @property
    def file(self) -> str:
        """The name of the weight file that ships, and of those that a training writes."""
        return f"{self.builder}{files.SUFFIX}"

    def build(self, weights: str | Path | None, **sizes: Any) -> Network:
        """Build a network in evaluation mode, float32, on the CPU.

        Args:
            weights: a file of `save`; "default": the one that ships with the package; "imagenet":
                random weights on a backbone with those of ImageNet; None: random weights.
            sizes: of the network, where no file has them.

        Raises:
            InputError: the file, or the package with the backbone's weights, is missing,
                unreadable or does not fit; or none ships.
        """
        if weights is None or weights == "imagenet":
            backbone = folded_backbone("default" if weights else None, self.stride)
            return self.network(backbone, **sizes).eval()
        if weights != "default":
            return self._load(weights)
        shipped = resources.files(self.package) / self.file
        if not shipped.is_file():
            raise InputError(
                f"weights: none of {self.builder} ship with this version; '{self.command}' makes "
                "a file for --weights"
            )
        with resources.as_file(shipped) as path:
            return self._load(path)

    def save(self, network: Network, path: str | Path) -> None:
        """Write a network's weights, with what is needed to build it again.

        They are written in half precision where that changes them little. Tensors of the backbone
        that are as the package has them are left out.

        Args:
            network: as `build` made it.
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
        files.write_network(path, kept, {"builder": self.builder, "sizes": network.sizes})

    def _load(self, path: str | Path) -> Network:
        kind = files.Kind(self.method, self._empty, self.sizes, self.command, released_tensors)
        return files.load_network(path, kind).eval()

    def _empty(self, recipe: files.Recipe) -> Network:
        network = files.builder_in(recipe, {self.builder: self.network})
        return network(folded_backbone(None, self.stride), **recipe["sizes"])
