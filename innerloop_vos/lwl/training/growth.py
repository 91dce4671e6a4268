"""LWL networks of other sizes, which begin as what a given one has learned."""

from typing import Any

import torch
from torch.nn import functional as F

from innerloop.errors import InputError
from innerloop_vos.lwl.model.network import LWL


def with_box_encoder(network: LWL) -> LWL:
    """Return the network itself, or with a new box encoder if it has none."""
    if network.box_label_encoder is not None:
        return network
    return _rebuilt(network, box=True)


def with_decoder_levels(network: LWL, levels: str) -> LWL:
    """Return the network itself, or with a decoder that sees more, which as yet changes nothing.

    Args:
        network: Is left as it is, but shares its backbone.
        levels: See `LWL`.

    Raises:
        InputError: Its decoder would no longer see something.
    """
    known = network.sizes["decoder_levels"]
    if levels == known:
        return network
    if levels != "both":
        raise InputError(
            f"--decoder-levels: {levels}, but the decoder of --init sees the {known}: should be "
            f"{known} or both"
        )
    changed = LWL(network.feature_extractor, **{**network.sizes, "decoder_levels": levels})
    state = network.state_dict()
    for name, encoder in changed.decoder.TSE.items():
        key = f"decoder.TSE.{name}.reduce.0.weight"
        added = encoder.get_parameter("reduce.0.weight").shape[1] - state[key].shape[1]
        sides = (0, added) if known == "image" else (added, 0)  # the image comes first
        state[key] = F.pad(state[key], (0, 0, 0, 0, *sides))
    changed.load_state_dict(state)
    return changed


def with_correction(network: LWL, greatest: float) -> LWL:
    """Return the network with another bound of its corrections; small ones stay what they are.

    Args:
        network: Is left as it is, but shares its backbone.
        greatest: See `LWL`.

    Raises:
        InputError: The bound is not positive, or nothing is corrected.
    """
    if not 0 < greatest < 1e6:
        raise InputError(f"--correction should be positive, got {greatest}")
    if not network.decoder.corrects:
        raise InputError("--correction: this network's decoder corrects no mask; see --mask-label")
    changed = _rebuilt(network, correction=greatest)
    with torch.no_grad():
        for parameter in changed.decoder.project.get_submodule("conv3").parameters():
            parameter.mul_(network.sizes["correction"] / greatest)
    return changed


def with_colours(network: LWL, count: int) -> LWL:
    """Return the network itself, or with so many features of colour, which need no training.

    Args:
        network: Is left as it is, but shares its backbone.
        count: See `LWL`.

    Raises:
        InputError: The number is negative or odd, or the target model has another stride than 8.
    """
    if not 0 <= count <= 4096 or count % 2 or network.sizes["stride"] != 8:
        raise InputError(
            f"--colours should be 0, or positive and even at --stride 8, got {str(count)[:50]}"
        )
    if count == network.sizes["colours"]:
        return network
    # Others have another shape: drop them first.
    return _rebuilt(_rebuilt(network, colours=0), colours=count)


def _rebuilt(network: LWL, **sizes: Any) -> LWL:
    """A network of other sizes with all the weights that it has too."""
    rebuilt = LWL(network.feature_extractor, **{**network.sizes, **sizes})
    rebuilt.load_state_dict(network.state_dict(), strict=False)
    return rebuilt
