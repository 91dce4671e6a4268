"""LWL networks with other colour features, which begin as what a given one has learned."""

from innerloop.errors import InputError
from innerloop_vos.lwl.model.network import LWL
from innerloop_vos.lwl.presets import SMALL, SMALL_WITH_COLOURS, of_small


def with_colours(network: LWL, count: int) -> LWL:
    """Return the network itself, or with so many colour features, which need no training.

    Args:
        network: is left as it is, but shares its backbone.
        count: see `LWL`.

    Raises:
        InputError: the number is negative or odd, or the target model has another stride than 8.
    """
    if not 0 <= count <= 4096 or count % 2 or network.sizes["stride"] != 8:
        raise InputError(
            f"--colours should be 0, or positive and even at --stride 8, got {str(count)[:50]}"
        )
    if count == network.sizes["colours"]:
        return network
    sizes = {name: size for name, size in network.sizes.items() if name != "box"}
    changed = LWL(network.feature_extractor, **{**sizes, "colours": count})
    if network.box_label_encoder is not None:
        changed.add_box_encoder()
    state = network.state_dict()
    # Those that are there have another shape.
    kept = {name: value for name, value in state.items() if not name.startswith("colours.")}
    changed.load_state_dict(kept, strict=False)
    tuned = network.preset in (SMALL, SMALL_WITH_COLOURS)
    changed.preset = of_small(changed.sizes) if tuned else network.preset
    return changed
