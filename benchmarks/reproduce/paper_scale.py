"""How much memory does a step of each of the papers' trainings take, at the papers' sizes?

Runs two iterations of each configuration on synthetic clips of 854x480 pixels, from random weights,
on one thread of the CPU, each in its own process. A batch goes through the network in parts, one
after the other. Prints the peak of resident memory and the CPU seconds of an iteration; adds them
to paper_scale.json, in the place of earlier ones of the same configuration, batch and part, and
draws paper_scale.png.

    OMP_WAIT_POLICY=PASSIVE python -m benchmarks.reproduce.paper_scale [--configs lwl-paper-stage1]
    ... --configs lwl-paper-stage2 --batch 4 --part 4 --iterations 1  # what a larger part takes
    ... --configs eosvos-meta --batch 1 --iterations 1 --crowded  # with all boxes on the object
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torchvision.models import resnet50

from benchmarks.reproduce.parts.clips import write_davis
from innerloop_vos.cli import main as command_line
from innerloop_vos.configs import config_names, config_path
from innerloop_vos.eosvos import save_eosvos
from innerloop_vos.eosvos.builders import eosvos_resnet50
from innerloop_vos.eosvos.finetuning import initial_rates
from innerloop_vos.eosvos.training import EOSVOSTraining
from innerloop_vos.io.files import atomic_path
from innerloop_vos.lwl import lwl_resnet50, save_lwl
from innerloop_vos.lwl.training.end_to_end import LWLTraining
from innerloop_vos.runs.memory import peak_memory
from innerloop_vos.training.loop import Figures, Training

SIZE = (480, 854)
_BACKBONE, _LWL, _EOSVOS = "resnet50.pth", "lwl.safetensors", "e-osvos.safetensors"


def write_inputs(folder: Path) -> None:
    """Write the clips and the random weights that the trainings start from."""
    write_davis(folder / "davis", [f"clip{index}" for index in range(8)], 10, SIZE)
    torch.manual_seed(0)
    # Without the branches' last scale the features stay small, as trained ones are.
    backbone = resnet50(weights=None, zero_init_residual=True).state_dict()
    torch.save(backbone, folder / _BACKBONE)
    lwl = lwl_resnet50()
    lwl.feature_extractor.load_state_dict(backbone, strict=False)
    save_lwl(lwl, folder / _LWL)
    eosvos = eosvos_resnet50()
    save_eosvos(eosvos, initial_rates(eosvos), folder / _EOSVOS)


def command(name: str, batch: int, part: int, iterations: int, folder: Path) -> list[str]:
    """The words of `innerloop-vos` that train a configuration."""
    lwl = name.startswith("lwl")
    words = ["train", "lwl" if lwl else "e-osvos", "--config", name, "--batch-size", str(batch)]
    words += ["--davis", str(folder / "davis"), "--held-out=", "--device", "cpu"]
    words += ["--iterations", str(iterations), "--every", str(iterations)]
    if lwl and batch > part:
        words += ["--accumulate", str(batch // part)]
    if tomllib.loads(config_path(name).read_text()).get("stage") == "1":
        words += ["--backbone-weights", str(folder / _BACKBONE), "--backbone-style", "caffe"]
    elif lwl:
        words += ["--init", str(folder / _LWL)]
    elif "davis" in name:
        words += ["--init", str(folder / _EOSVOS)]
    else:
        words += ["--backbone-weights", str(folder / _BACKBONE)]
    return words


def paper_batch(name: str) -> int:
    """The batch of a configuration."""
    batch: int = tomllib.loads(config_path(name).read_text())["batch-size"]
    return batch


class Watch:
    """Measures the steps of a training, in the process that takes them."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.peak = 0.0  # GiB

    def over(self, kind: type[Training], crowded: bool) -> None:
        """Measure all trainings of this kind, with as many boxes on the object as may be."""
        step = kind.step

        def measured(training: Any, iteration: int) -> Figures:
            if crowded and isinstance(training, EOSVOSTraining):
                training.network.roi_heads.add_gt_proposals = _crowd
            start = time.process_time()
            figures = step(training, iteration)
            self.seconds.append(time.process_time() - start)
            self.peak = _peak()
            if figures["left out/share"]:
                raise RuntimeError(f"step {iteration + 1} left out tasks or its gradient")
            return figures

        kind.step = measured  # type: ignore[method-assign]


def _crowd(proposals: list[Tensor], objects: list[Tensor]) -> list[Tensor]:
    """More proposals on the objects (1, 4) than the heads take."""
    pairs = zip(proposals, objects, strict=True)
    return [torch.cat([boxes, object_.expand(512, -1)]) for boxes, object_ in pairs]


def _peak() -> float:
    """Peak of resident memory in GiB."""
    found = peak_memory(torch.device("cpu"))
    assert found, "the system does not tell the peak of resident memory"
    return found / 2**30


def measure(words: list[str], crowded: bool) -> dict[str, Any]:
    """Train in this process; peak memory and mean CPU seconds of the steps."""
    torch.set_num_threads(1)
    watch = Watch()
    for kind in (LWLTraining, EOSVOSTraining):
        watch.over(kind, crowded)
    with tempfile.TemporaryDirectory() as out:
        code = command_line([*words, "--out", out])
    if code:
        sys.exit(code)
    count = len(watch.seconds)
    return {"iterations": count, "GiB": watch.peak, "seconds": sum(watch.seconds) / count}


def main(words: list[str] | None = None) -> None:
    given = sys.argv[1:] if words is None else words
    if given[:1] == ["--measure"]:  # in a process of its own
        print(json.dumps(measure(given[2:], crowded=given[1] == "True")))
        return
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--configs", nargs="+", default=config_names(), choices=config_names())
    parser.add_argument("--batch", type=int, help="default: that of the configuration")
    parser.add_argument("--part", type=int, default=1, help="sequences at once, LWL only")
    parser.add_argument("--iterations", type=int, default=2)
    parser.add_argument(
        "--crowded",
        action="store_true",
        help="e-OSVOS: as many boxes on the object as its heads take, as a trained network may "
        "propose; from random weights there are few",
    )
    default = Path(__file__).parent / "results" / "paper_scale"
    parser.add_argument("--output", type=Path, default=default)
    arguments = parser.parse_args(given)
    file = arguments.output / "paper_scale.json"
    rows = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
    arguments.output.mkdir(parents=True, exist_ok=True)
    print(f"{'':31}{'batch':>10}{'at once':>9}{'peak, GiB':>11}{'CPU s':>8}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        write_inputs(Path(folder))
        for name in arguments.configs:
            batch = arguments.batch or paper_batch(name)
            part = arguments.part if name.startswith("lwl") else 1  # e-OSVOS goes task by task
            if batch % part:
                parser.error(f"--part: {part} does not divide the batch of {batch}")
            case = {"config": name, "batch": batch, "of": paper_batch(name), "at once": part}
            if not name.startswith("lwl"):
                case["crowded"] = arguments.crowded
            training = command(name, batch, part, arguments.iterations, Path(folder))
            process = [sys.executable, "-m", "benchmarks.reproduce.paper_scale", "--measure"]
            process += [str(arguments.crowded), *training]
            printed = subprocess.run(process, check=True, stdout=subprocess.PIPE, text=True).stdout
            row = case | json.loads(printed.splitlines()[-1])
            print(_line(row), flush=True)
            rows = [each for each in rows if not case.items() <= each.items()] + [row]
            rows.sort(key=lambda each: (each["config"], -each["batch"], each["at once"]))
            with atomic_path(file) as path:
                path.write_text(json.dumps(rows, indent=1) + "\n")
    draw(rows, arguments.output / "paper_scale.png")


def _line(row: dict[str, Any]) -> str:
    batch = f"{row['batch']} of {row['of']}"
    return f"{_name(row):31}{batch:>10}{row['at once']:9}{row['GiB']:11.2f}{row['seconds']:8.1f}"


def _name(row: dict[str, Any]) -> str:
    return row["config"] + (", crowded" if row.get("crowded") else "")


def draw(rows: list[dict[str, Any]], picture: Path) -> None:
    """Draw the peak memory, a bar for each row; `rows` is as written."""
    labels = [f"{_name(row)}, {row['at once']} at once" for row in rows][::-1]
    figure = Figure(figsize=(7, 0.3 * len(rows) + 1), layout="constrained")
    axes = figure.add_subplot()
    bars = axes.barh(range(len(rows)), [row["GiB"] for row in rows][::-1])
    axes.bar_label(bars, fmt="%.1f", fontsize="small", padding=2)
    axes.set_yticks(range(len(rows)), labels, fontsize="small")
    axes.set(xlabel="peak of resident memory, GiB")
    with atomic_path(picture) as path:
        figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
