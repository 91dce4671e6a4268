"""Small RVOS networks."""

import torch

from innerloop_vos.rvos import rvos

WIDTHS = (6, 5, 4, 3)


def tiny(recurrence="ST", seed=0, restless=True):
    """Build a network; a restless one has large weights, so that all it is told matters."""
    torch.manual_seed(seed)
    network = rvos(widths=WIDTHS, recurrence=recurrence)
    if restless:
        for cell in network.decoder.cells:
            torch.nn.init.normal_(cell.own.weight, std=0.3)
        torch.nn.init.normal_(network.decoder.mask.weight)
    return network
