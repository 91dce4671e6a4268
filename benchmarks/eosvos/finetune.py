"""What does fine-tuning e-OSVOS through the core cost, and how much do rates of 0 save?

Fine-tunes the MobileNetV2 variant on three copies of a synthetic frame: by a plain loop of
torch.optim.SGD, and with rates for all parameters or for some, the others being 0. All cases take
turns, so that a busy machine slows them alike. Prints the median time per step, and writes
finetune.json and, with matplotlib, finetune.png.

    OMP_WAIT_POLICY=PASSIVE python -m benchmarks.eosvos.finetune [--rounds N] [--output FOLDER]
"""

import argparse
import copy
import json
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

import innerloop as il
from innerloop.compare.measure import interleaved, median_ratio, seconds
from innerloop_vos.data import synthetic_clip
from innerloop_vos.eosvos import EOSVOS, eosvos_mobilenet_v2
from innerloop_vos.eosvos.finetuning import Batch, fine_tune, learning, training_loss

STEPS = 3
RATE = 1e-3
LEARNING = {
    "all rates": "",
    "heads alone": "roi_heads.",
    "mask head alone": "roi_heads.mask_",
}


def cases(network: EOSVOS, batch: Batch) -> dict[str, Callable[[], object]]:
    """A function for every case, which takes `STEPS` steps."""

    def next_batch() -> Batch:
        # The losses are computed on random anchors and boxes, the same in all cases.
        torch.manual_seed(0)
        return batch

    def plain() -> None:
        tuned = copy.deepcopy(network)
        optimizer = torch.optim.SGD(tuned.parameters(), RATE)
        for _ in range(STEPS):
            optimizer.zero_grad()
            training_loss(tuned, next_batch()).backward()
            optimizer.step()

    frozen = copy.deepcopy(network).requires_grad_(False)

    def adapted(prefix: str) -> Callable[[], object]:
        rates = il.LearningRates(network, per="neuron", init=RATE)
        with torch.no_grad():
            for name, rate in rates().items():
                if not name.startswith(prefix):
                    rate.zero_()
        chosen = learning(network, rates)
        model = il.Adapted(frozen, list(chosen))
        return lambda: fine_tune(model, chosen, next_batch, STEPS, adjoint=il.Detach())

    return {
        "torch.optim.SGD": plain,
        **{name: adapted(prefix) for name, prefix in LEARNING.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).parent / "results" / "finetune"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    frames, masks = synthetic_clip(1, (240, 432), objects=1, seed=0)
    runs = cases(eosvos_mobilenet_v2(), Batch([frames[0] / 255] * 3, [masks[0] == 1] * 3))
    for run in runs.values():
        run()  # the first call sets up what later ones find
    clocked = {name: partial(seconds, run) for name, run in runs.items()}
    times = interleaved(clocked, arguments.rounds)

    reference = times["torch.optim.SGD"]
    rows = []
    print(f"{'fine-tuning':20}{'s per step':>10}{'to SGD':>10}")
    for name, found in times.items():
        a_step = statistics.median(found) / STEPS
        rows.append({"case": name, "seconds": a_step, "to_sgd": median_ratio(found, reference)})
        print(f"{name:20}{rows[-1]['seconds']:10.3f}{rows[-1]['to_sgd']:10.2f}")
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "finetune.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    plot(rows, arguments.output / "finetune.png")


def plot(rows: list[dict[str, float]], path: Path) -> None:
    """A bar for every case."""
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        return
    figure, axes = plt.subplots(figsize=(7, 2.2), layout="constrained")
    axes.barh([row["case"] for row in rows][::-1], [row["seconds"] for row in rows][::-1])
    axes.set_xlabel("seconds per fine-tuning step, one thread")
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
