"""The training of a network by AdamW, whose learning rates rise and fall."""

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from innerloop_vos.training.loop import Figures, Stateful, Training, cosine_rate
from innerloop_vos.training.processes import average_gradients
from innerloop_vos.training.settings import DescentSettings


@dataclass(frozen=True)
class Group:
    """Modules with a learning rate of their own; those of none are not trained.

    Attributes:
        modules: the modules.
        rate: learning rate at its height; 0 leaves the modules as they are.
        options: of AdamW, where they are others. Default: none.
    """

    modules: Sequence[nn.Module]
    rate: float
    options: dict[str, Any] = field(default_factory=dict)


class DescentTraining(Training):
    """Trains a network by gradient descent on its own losses.

    Args:
        network: is changed; moved to `device`. It has `sizes`, which a resumed training shares.
        groups: what is trained, the first of which gives the curve its rate.
        settings: see there.
        device: where to train. Default: the CPU.
    """

    def __init__(
        self,
        network: nn.Module,
        groups: Iterable[Group],
        settings: DescentSettings,
        device: torch.device | str = "cpu",
    ) -> None:
        torch.manual_seed(settings.seed)
        self.schedule, self.device = settings, torch.device(device)
        self.trained = network.to(self.device).requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            [_parameters(group) for group in groups if group.rate],
            weight_decay=settings.weight_decay,
        )

    @abstractmethod
    def losses(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Draw a batch, and return the loss to descend and the parts of it for the curve."""

    def prepare(self) -> None:
        """Prepare the network before the first step. Default: nothing."""

    def step(self, iteration: int) -> Figures:
        """Take one optimizer step, or none where the gradient is not finite.

        Returns:
            The parts of the loss, and whether the step was left out.
        """
        settings = self.schedule
        if iteration == 0:
            self.prepare()
        self.trained.train()
        factor = cosine_rate(iteration, settings.iterations, warmup=settings.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = group["base"] * factor
        loss, parts = self.losses()
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        average_gradients(parameters)
        norm = torch.nn.utils.clip_grad_norm_(parameters, settings.clip)
        if norm.isfinite():
            self.optimizer.step()
        figures = {f"train/{name}": part.item() for name, part in parts.items()}
        return figures | {"left out/share": float(not norm.isfinite())}

    def rates(self) -> Figures:
        """Return the learning rate of the last step."""
        return {"rate/decoder": self.optimizer.param_groups[0]["lr"]}

    def configuration(self) -> dict[str, dict[str, Any]]:
        """Return the settings and the sizes of the network."""
        return {"settings": asdict(self.schedule), "sizes": self.trained.sizes}  # type: ignore[dict-item]

    def parts(self) -> dict[str, Stateful]:
        """Return network and optimizer."""
        return {"network": self.trained, "optimizer": self.optimizer}


def _parameters(group: Group) -> dict[str, Any]:
    parameters = [p.requires_grad_(True) for m in group.modules for p in m.parameters()]
    return {"params": parameters, "lr": group.rate, "base": group.rate, **group.options}
