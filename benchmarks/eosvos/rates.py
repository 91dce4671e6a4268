"""Which layers of e-OSVOS learn fast? The meta-learned rates, part by part.

Reads the rates of a weights file, prints for each part of the network their mean, min, max and the
share that is 0 (frozen), and writes rates.json and, with matplotlib, rates.png: the rates of every
layer in order.

    python -m benchmarks.eosvos.rates --weights FILE [--output FOLDER]
"""

import argparse
import json
import re
from pathlib import Path

import torch
from torch import Tensor

from innerloop_vos.eosvos import load_eosvos
from innerloop_vos.eosvos.finetuning import rates_by_name
from innerloop_vos.io.files import atomic_path

PARTS = {
    "backbone": r"backbone\.body\.",
    "feature pyramid": r"backbone\.fpn\.",
    "proposals": r"rpn\.",
    "box head": r"roi_heads\.box_head\.",
    "class of a box": r"roi_heads\.box_predictor\.cls_score\.",
    "sides of a box": r"roi_heads\.box_predictor\.bbox_pred\.",
    "mask head": r"roi_heads\.mask_head\.",
    "mask": r"roi_heads\.mask_predictor\.",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--weights", required=True, help="weights of e-osvos")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "rates")
    arguments = parser.parse_args()
    rates = {n: r.detach() for n, r in rates_by_name(*load_eosvos(arguments.weights)).items()}
    rows = {}
    print(f"{'part':18}{'rates':>8}{'mean':>12}{'min':>12}{'max':>12}{'frozen':>9}")
    for part, pattern in PARTS.items():
        chosen = [rate.flatten() for name, rate in rates.items() if re.match(pattern, name)]
        if chosen:
            rows[part] = row = summary(torch.cat(chosen))
            print(
                f"{part:18}{row['count']:8.0f}{row['mean']:12.2e}{row['min']:12.2e}"
                f"{row['max']:12.2e}{row['frozen']:9.1%}"
            )
    layers = {name: rate.mean().item() for name, rate in rates.items()}
    arguments.output.mkdir(parents=True, exist_ok=True)
    with atomic_path(arguments.output / "rates.json") as temporary:
        temporary.write_text(json.dumps({"parts": rows, "layers": layers}, indent=1))
    plot(layers, arguments.output / "rates.png")


def summary(rates: Tensor) -> dict[str, float]:
    """Count, mean, min and max of some rates, and the share of them that is 0."""
    return {
        "count": rates.numel(),
        "mean": rates.mean().item(),
        "min": rates.min().item(),
        "max": rates.max().item(),
        "frozen": (rates == 0).double().mean().item(),
    }


def plot(layers: dict[str, float], path: Path) -> None:
    """The mean rate of every tensor in the order of the network, weights apart from the rest."""
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        return
    figure, axes = plt.subplots(figsize=(8, 3.6), layout="constrained")
    names = list(layers)
    for kind, marker in (("weight", "o"), ("bias", "x")):
        places = [i for i, name in enumerate(names) if name.endswith(kind)]
        axes.plot(places, [layers[names[i]] for i in places], marker, label=kind)
    starts = {
        part: next((i for i, name in enumerate(names) if re.match(pattern, name)), None)
        for part, pattern in PARTS.items()
    }
    shown = {part: place for part, place in starts.items() if place is not None}
    for place in shown.values():
        axes.axvline(place - 0.5, color="grey", linewidth=0.5)
    axes.set_xticks(list(shown.values()), list(shown), rotation=60, ha="left", fontsize="small")
    axes.xaxis.tick_top()
    axes.set_ylabel("mean learning rate")
    axes.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
