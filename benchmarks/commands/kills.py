"""Does a command that is killed at a random moment lose anything?

Makes small clips in a temporary folder, runs four commands on them to their end, and then again
with SIGKILL, SIGTERM or SIGINT at random moments. Each killed run is started again until it ends;
its outputs must then be those of the run that nobody killed, to the bit.

    python -m benchmarks.commands.kills [--kills 100] [--seed 0] [--out FOLDER]
"""

import argparse
import importlib
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # a fork does not inherit threads

import torch
from PIL import Image

from innerloop_vos.cli import main as command_line
from innerloop_vos.data.synthetic import synthetic_clip
from innerloop_vos.eosvos import save_eosvos
from innerloop_vos.eosvos.builders import eosvos_mobilenet_v2
from innerloop_vos.eosvos.finetuning import initial_rates
from innerloop_vos.io.masks import write_mask
from innerloop_vos.runs import signals
from innerloop_vos.training.curve import Curve

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
_TEMPORARY = re.compile(r"\..+-[0-9a-f]{32}(\..*)?|\.partial-.+")
_SIZES: dict[str, Any] = {
    "channels": 16,
    "image_size": (48, 64),
    "anchors": (8, 16, 32, 48, 64),
    "box_features": 16,
    "mask_features": 8,
    "mask_pooling": 7,
    "sampled_anchors": 32,
    "sampled_boxes": 16,
    "proposals": (50, 50),
}
_FORKS = multiprocessing.get_context("fork")
"""Importing torch takes longer than all else that a command does here; a fork need not."""


def _write_data(root: Path) -> None:
    for seed, name in enumerate(("cat", "dog")):
        frames, masks = synthetic_clip(12, (48, 64), objects=1, seed=seed)
        for kind in ("JPEGImages", "Annotations"):
            (root / kind / "480p" / name).mkdir(parents=True)
        for index, (frame, mask) in enumerate(zip(frames, masks, strict=True)):
            picture = Image.fromarray(frame.permute(1, 2, 0).numpy())
            picture.save(root / "JPEGImages" / "480p" / name / f"{index:05d}.png")
            write_mask(root / "Annotations" / "480p" / name / f"{index:05d}.png", mask)
    (root / "ImageSets" / "480p").mkdir(parents=True)
    (root / "ImageSets" / "480p" / "train.txt").write_text("cat\ndog\n")


def _write_network(path: Path) -> None:
    torch.manual_seed(0)
    network = eosvos_mobilenet_v2(**_SIZES)
    save_eosvos(network, initial_rates(network), path)


def _commands(work: Path) -> dict[str, list[str]]:
    data = work / "data"
    tiny = f"--davis {data} --iterations 4 --every 2 --batch-size 1"
    lines = {
        "segment": f"segment {data}/JPEGImages/480p/cat --mask "
        f"{data}/Annotations/480p/cat/00000.png --method ridge",
        "evaluate": f"evaluate --root {data} --split train --method ridge",
        "train lwl-lite": f"train lwl-lite {tiny} --height 48 --width 64 --frames 2 --features 8 "
        "--outputs 3 --warmup 1",
        "train e-osvos": f"train e-osvos --phase meta --init {work}/start.safetensors {tiny} "
        "--inner-steps 1",
    }
    return {name: [*line.split(), "--device", "cpu"] for name, line in lines.items()}


def _run(words: Sequence[str], out: Path, errors: Path, started: Any) -> None:
    """Run a command in a fork."""
    with signals.handled(signals.leave):
        started.set()
        file = os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        resume = ["--resume"] if (out / "checkpoint.pt").exists() else []
        sys.argv = ["innerloop-vos", *words, "--out", str(out), *resume]
        sys.exit(command_line())


def _start(words: Sequence[str], out: Path) -> tuple[Any, Path]:
    """Start a command, and return its process and the file of what it prints."""
    errors = out.with_name(f"{out.name}.txt")
    started = _FORKS.Event()
    process = _FORKS.Process(target=_run, args=(words, out, errors, started))
    process.start()
    started.wait()
    return process, errors


def _finish(words: Sequence[str], out: Path) -> tuple[int, str]:
    """Run a command to its end, and return its exit code and what it printed."""
    process, errors = _start(words, out)
    process.join()
    return process.exitcode, errors.read_text()


def _outputs(out: Path) -> dict[str, Any]:
    """The outputs that must be the same; times and checkpoints are not compared."""
    found: dict[str, Any] = {}
    for path in sorted(out.rglob("*")):
        if path.suffix in (".safetensors",) or (path.suffix == ".png" and path.parent != out):
            found[str(path.relative_to(out))] = path.read_bytes()
        elif path.suffix == ".png" and path.name != "curve.png":
            found[path.name] = path.read_bytes()
        elif path.name == "curve.json":
            found[path.name] = json.loads(path.read_text())
        elif path.name == "scores.json":
            sequences = json.loads(path.read_text())["sequences"]
            found[path.name] = {name: each["objects"] for name, each in sequences.items()}
    return found


def _done(out: Path) -> set[str]:
    """The finished files, which must survive: masks, scores, checkpoints."""
    names = (path for path in out.rglob("*") if path.suffix in (".png", ".pt", ".json"))
    return {
        str(path.relative_to(out))
        for path in names
        if not any(_TEMPORARY.fullmatch(part) for part in path.relative_to(out).parts)
    }


def _kill(words: Sequence[str], out: Path, number: int, after: float) -> dict[str, Any] | None:
    """Kill one run, and return what it left, or None if it had ended before."""
    process, errors = _start(words, out)
    process.join(after)
    if not process.is_alive():
        return None
    os.kill(process.pid, number)
    process.join()
    left = [p.name for p in out.rglob("*") if _TEMPORARY.fullmatch(p.name)] if out.exists() else []
    expected = -number if number == signal.SIGKILL else 128 + number
    return {
        "code": process.exitcode,
        "right code": process.exitcode in (0, expected),
        "traceback": "Traceback" in errors.read_text(),
        "leftovers": left,
        "done": sorted(_done(out)) if out.exists() else [],
    }


def _kill_again(
    words: Sequence[str], out: Path, number: int, moments: Iterable[float]
) -> list[dict[str, Any]]:
    """Kill one run at each of the moments, until it ends before one, and record what was lost."""
    records: list[dict[str, Any]] = []
    for after in moments:
        record = _kill(words, out, number, after)
        if record is None:
            break
        before = set(records[-1]["done"]) if records else set()
        # Files in .unfinished are moved to their place at the end.
        lost = {path for path in before if not path.startswith(".unfinished")}
        record |= {"after": round(after, 3), "lost": sorted(lost - set(record["done"]))}
        records.append(record)
    return records


def _undisturbed(
    commands: dict[str, list[str]], folder: Path
) -> tuple[dict[str, dict[str, Any]], dict[str, float]]:
    """Run each command to its end, and return its outputs and its seconds."""
    whole, seconds = {}, {}
    folder.mkdir()
    for name, words in commands.items():
        begin = time.monotonic()
        code, text = _finish(words, folder / name)
        if code:
            raise SystemExit(f"{name}: {text[-400:]}")
        seconds[name] = time.monotonic() - begin
        whole[name] = _outputs(folder / name)
        print(f"{name}: {seconds[name]:.1f} s, {len(whole[name])} outputs", flush=True)
    return whole, seconds


def measure(kills: int, seed: int, work: Path) -> Iterator[list[dict[str, Any]]]:
    """Kill runs, and then finish each.

    Args:
        kills: number of kills in all.
        seed: seed of the random moments.
        work: a folder for all that the runs read and write.

    Yields:
        A record of each kill so far, whenever a run has ended.
    """
    draw = random.Random(seed)
    _write_data(work / "data")
    _write_network(work / "start.safetensors")
    # Imported here, so that no fork has to.
    importlib.import_module("innerloop_vos.commands.program")
    Curve(work, []).write()
    commands = _commands(work)
    whole, seconds = _undisturbed(commands, work / "whole")
    cases = [(name, number) for number in SIGNALS for name in commands]
    draw.shuffle(cases)
    records: list[dict[str, Any]] = []
    while len(records) < kills:
        for name, number in cases:
            out = work / "killed"
            shutil.rmtree(out, ignore_errors=True)
            # A run is killed up to three times before it may end.
            times = min(draw.randint(1, 3), kills - len(records))
            moments = (draw.uniform(0, 0.8 * seconds[name]) for _ in range(times))
            mine = _kill_again(commands[name], out, number, moments)
            for record in mine:
                record |= {"command": name, "signal": signal.Signals(number).name}
            records += mine
            code, text = _finish(commands[name], out)
            same = code == 0 and _outputs(out) == whole[name]
            stale = [p.name for p in out.rglob("*") if _TEMPORARY.fullmatch(p.name)]
            for record in mine:
                record |= {"bit-equal": same, "stale at the end": stale}
            if not same:
                print(f"{name}, {number}: not the same: {text[-300:]}", flush=True)
            print(f"{len(records)} kills", flush=True)
            yield records
            if len(records) >= kills:
                break


def table(records: Sequence[dict[str, Any]]) -> str:
    """Write the kills as a Markdown table, one row per command and signal."""
    lines = [
        "| command | signal | kills | had begun to write | too late to stop | "
        "right exit code | tracebacks | leftovers | lost | bit-equal |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for key in sorted({(each["command"], each["signal"]) for each in records}):
        rows = [each for each in records if (each["command"], each["signal"]) == key]
        counts = [
            len(rows),
            sum(bool(each["done"]) for each in rows),
            sum(each["code"] == 0 for each in rows),
            sum(each["right code"] for each in rows),
            sum(each["traceback"] for each in rows),
            sum(bool(each["leftovers"]) for each in rows),
            sum(bool(each["lost"]) for each in rows),
            sum(each["bit-equal"] for each in rows),
        ]
        lines.append("| " + " | ".join([*key, *map(str, counts)]) + " |")
    return "\n".join(lines) + "\n"


def holds(records: Sequence[dict[str, Any]]) -> bool:
    """Whether nothing was lost or left, but by SIGKILL, which leaves until the next run."""
    return all(
        each["bit-equal"]
        and each["right code"]
        and not each["traceback"]
        and not each["lost"]
        and not each["stale at the end"]
        and (each["signal"] == "SIGKILL" or not each["leftovers"])
        for each in records
    )


def main() -> None:
    """Kill runs, and write what came of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "kills")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    records: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as work:
        for records in measure(arguments.kills, arguments.seed, Path(work)):
            short = [{k: v for k, v in each.items() if k != "done"} for each in records]
            lines = ",\n".join(map(json.dumps, short))
            (arguments.out / "kills.json").write_text(f"[\n{lines}\n]\n")
            (arguments.out / "kills.md").write_text(table(records))
    print(table(records))
    sys.exit(not holds(records))


if __name__ == "__main__":
    main()
