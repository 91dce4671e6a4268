"""Fine-tuning the network to one object: the inner problem, on the core's gradient descent."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

import innerloop as il
from innerloop_vos.eosvos.boxes import mask_boxes
from innerloop_vos.eosvos.network import EOSVOS, Encoded

RATE = 1e-3
"""Learning rate of the released system before it is trained."""

_SPREAD = 0.5


class Batch(NamedTuple):
    """Images with the masks of one object."""

    images: list[Tensor]
    """RGB in 0..1, each of shape (3, H, W)."""
    masks: list[Tensor]
    """Where the object is, shape (H, W), bool; all false where it is not in the image."""


def initial_rates(
    network: nn.Module,
    generator: torch.Generator | None = None,
    *,
    per: Literal["model", "tensor", "neuron", "parameter"] = "neuron",
    rate: float = RATE,
) -> il.LearningRates:
    """Make learning rates for a network, before they are trained.

    Args:
        network: network that the rates are for.
        generator: generator of random numbers. Default: the global one.
        per: what has its own rate. Default: every neuron.
        rate: mean of the rates. Default 0.001.

    Returns:
        The rates, each within half the mean of the mean; a single rate is the mean.

    Source:
        Meinhardt and Leal-Taixé, Make One-Shot Video Object Segmentation Efficient Again, NeurIPS
        2020, section 3.2.4.
    """
    rates = il.LearningRates(network, per=per, init=rate)
    if per == "model":
        return rates
    with torch.no_grad():
        for values in rates.parameters():
            factor = torch.rand(values.shape, generator=generator).to(values)
            values.mul_(1 + _SPREAD * (2 * factor - 1))
    return rates


def training_loss(model: Callable[..., Any], batch: Batch | Encoded) -> Tensor:
    """The training loss of Mask R-CNN: the plain sum of its five losses.

    Args:
        model: an `EOSVOS`, adapted or not.
        batch: frames and masks to fit.

    Returns:
        The loss, shape ().
    """
    if isinstance(batch, Encoded):
        losses: dict[str, Tensor] = model(batch)
    else:
        losses = model(batch.images, _targets(batch))
    return torch.stack(list(losses.values())).sum()


def encode_batch(network: EOSVOS, batch: Batch, depth: int) -> Encoded:
    """Pass a batch through the frozen first layers, once for all steps.

    Args:
        network: network with these layers.
        batch: frames and masks to fit.
        depth: number of these layers.

    Returns:
        The encoded batch, which `training_loss` takes instead.
    """
    return network.encode(batch.images, _targets(batch), depth=depth)


def fine_tune(
    model: nn.Module | il.Adapted,
    rates: Mapping[str, Tensor],
    next_batch: Callable[[], Batch | Encoded],
    steps: int,
    *,
    init: Mapping[str, Tensor] | None = None,
    adjoint: il.Adjoint | None = None,
    on_loss: Callable[[Tensor], None] | None = None,
) -> il.Adapted:
    """Fit a network to an object by gradient descent, a new batch at every step.

    Args:
        model: the network, which is not changed, or a result of this function to continue from.
        rates: learning rates by parameter, each a tensor that broadcasts over it, such as
            `LearningRates(network, per="neuron")()`. Parameters without a rate are frozen.
        next_batch: called once at every step.
        steps: number of steps.
        init: tensors that replace the network's parameters at the start, by name. Default: none.
        adjoint: how gradients come back through the steps. Default `il.FirstOrder()`, as in the
            paper.
        on_loss: called with the loss of every step. Default: nothing is called.

    Returns:
        The adapted network.

    Raises:
        SolveError: the parameters or the losses became infinite or not a number.

    Source:
        Meinhardt and Leal-Taixé, Make One-Shot Video Object Segmentation Efficient Again, NeurIPS
        2020, eq. 5.
    """
    if not isinstance(model, il.Adapted):
        model = il.Adapted(model, list(rates))

    def objective(adapting: Callable[..., Any]) -> Tensor:
        loss = training_loss(adapting, next_batch())
        if on_loss:
            on_loss(loss.detach())
        return loss

    return model.adapt(
        objective,
        il.GradientDescent(dict(rates)),
        init=init,
        steps=steps,
        adjoint=adjoint or il.FirstOrder(),
    )


def rates_by_name(network: nn.Module, rates: il.LearningRates) -> dict[str, Tensor]:
    """Give every parameter of a network that requires a gradient its learning rates.

    Args:
        network: network with these parameters.
        rates: learning rates of any kind that are the same in all steps.

    Returns:
        The rates by the names of the parameters.

    Raises:
        ValueError: the rates change from step to step.
    """
    if rates.per_step is not None:
        raise ValueError(f"rates: per_step={rates.per_step}, should be the same in all steps")
    names = [name for name, value in network.named_parameters() if value.requires_grad]
    tree = rates()
    return dict.fromkeys(names, tree) if isinstance(tree, Tensor) else {n: tree[n] for n in names}


def learning(network: nn.Module, rates: il.LearningRates) -> dict[str, Tensor]:
    """Select the parameters of a network that are trained.

    A tensor whose rates are all 0 is frozen; then no gradient is computed below the first parameter
    that is trained.

    Args:
        network: network with these parameters; those that require no gradient are frozen.
        rates: learning rates of any kind that are the same in all steps.

    Returns:
        The rates, detached, by the names of the parameters.

    Raises:
        ValueError: the rates change from step to step, or all are 0.
    """
    named = rates_by_name(network, rates)
    chosen = {name: rate.detach() for name, rate in named.items() if rate.any()}
    if not chosen:
        raise ValueError("rates: all are 0, so that nothing would be learned")
    return chosen


def _targets(batch: Batch) -> list[dict[str, Tensor]]:
    return [_target(mask.to(image.device)) for image, mask in zip(*batch, strict=True)]


def _target(mask: Tensor) -> dict[str, Tensor]:
    """The mask (H, W) of one object, or of none, in the form of torchvision's detectors."""
    masks = mask[None] if mask.any() else mask.new_zeros(0, *mask.shape)
    return {
        "boxes": mask_boxes(masks),
        "labels": torch.ones(len(masks), dtype=torch.int64, device=mask.device),
        "masks": masks.byte(),
    }
