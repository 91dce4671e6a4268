"""The options of trainings: from the command line, from a file, and as settings."""

import re
import subprocess
import sys
import tomllib
from dataclasses import asdict, dataclass, fields

import pytest

from innerloop.errors import InputError
from innerloop_vos.cli import main
from innerloop_vos.commands import train
from innerloop_vos.configuration.arguments import described
from innerloop_vos.lwl.training.stages import STAGES
from innerloop_vos.training.options import (
    TrainingParser,
    add_run_arguments,
    add_settings_arguments,
    read_settings,
)


@dataclass(frozen=True)
class Settings:
    """Settings of nothing."""

    batch_size: int = described(4, "Clips a step, all 100% of them.")
    rate: float = described(0.1, "Learning rate.")
    decay_at: tuple[int, ...] = described((), "Steps of the decay.")
    loss: str = described("lovasz", "Its name.")
    mirror: bool = described(True, "Whether to mirror.")

    def __post_init__(self):
        if self.batch_size < 1:
            raise InputError(f"batch_size should be positive, got {self.batch_size}")


FAST, SLOW = Settings(rate=0.5), Settings(rate=0.01, decay_at=(3, 6))


def parser():
    made = TrainingParser(prog="train")
    made.add_argument("--stage", required=True, choices=("1", "2"))
    add_run_arguments(made, every=250)
    add_settings_arguments(made, FAST, SLOW, names="fast | slow")
    return made


def parse(line):
    return parser().parse_args(line.split())


def write(folder, text):
    path = folder / "run.toml"
    path.write_text(text)
    return str(path)


def test_settings_are_those_of_the_preset_but_for_what_is_given():
    arguments = parse("--stage 1 --out x")
    assert read_settings(arguments, SLOW) is not SLOW
    assert read_settings(arguments, SLOW) == SLOW
    line = "--stage 1 --out x --batch-size 2 --decay-at 5,7 --no-mirror --loss l1"
    arguments = parse(line)
    assert read_settings(arguments, SLOW) == Settings(2, 0.01, (5, 7), "l1", False)
    assert read_settings(parse(f"{line} --decay-at="), SLOW).decay_at == ()
    with pytest.raises(InputError, match="batch_size should be positive, got 0"):
        read_settings(parse("--stage 1 --out x --batch-size 0"), FAST)


def test_the_help_tells_what_settings_mean_and_their_defaults(capsys):
    with pytest.raises(SystemExit):
        parser().parse_args(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "Clips a step, all 100% of them. (4)" in text
    assert "Learning rate. (0.5 | 0.01)" in text
    assert "Steps of the decay. ( | 3,6)" in text
    assert "those of fast | slow." in text


def test_the_help_needs_no_docstrings():
    command = [sys.executable, "-OO", "-m", "innerloop_vos.cli", "train", "lwl", "--help"]
    text = " ".join(
        subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    )
    assert "--batch-size BATCH_SIZE Mini-sequences per step. (20 | 20 | 8)" in text


def test_options_come_from_a_file_and_the_command_line_wins(tmp_path):
    path = write(
        tmp_path,
        'stage = 2\nout = "runs/a"\nbatch-size = 8\nrate = 1e-3\ndecay-at = [10, 20]\n'
        "mirror = false\nresume = true\ntensorboard = true\n",
    )
    # Wherever --config stands.
    for line in (
        f"--config {path} --rate 0.2 --no-resume",
        f"--rate 0.2 --no-resume --config {path}",
    ):
        arguments = parser().parse_args(line.split())
        assert (arguments.stage, arguments.out, arguments.every) == ("2", "runs/a", 250)
        assert (arguments.resume, arguments.tensorboard) == (False, True)
        assert read_settings(arguments, FAST) == Settings(8, 0.2, (10, 20), "lovasz", False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("batch_size = 8", r"run\.toml has unknown options: batch_size"),
        ("bach-size = 8\nwidth = 2", "unknown options: bach-size, width"),
        ("batch = 8", "unknown options: batch"),  # no short forms
        ("wide = false", "unknown options: wide"),
        ("batch-size = 'many'", "argument --batch-size: invalid int value: 'many'"),
        ("stage = 3", "argument --stage: invalid choice: '3'"),
        ("[settings]\nrate = 1", "settings should be a number, a text, a list of these or a truth"),
        ("config = 'other.toml'", "config should be"),
        ("rate 1", r"run\.toml cannot be read"),
    ],
)
def test_what_a_file_must_not_hold_is_named(tmp_path, capsys, text, message):
    path = write(tmp_path, text)
    with pytest.raises(SystemExit) as stopped:
        parse(f"--stage 1 --out x --config {path}")
    assert stopped.value.code == 2
    assert re.search(message, capsys.readouterr().err)


def test_a_file_that_is_not_there(capsys):
    with pytest.raises(SystemExit):
        parse("--stage 1 --out x --config absent.toml")
    assert "--config: absent.toml cannot be read: [Errno 2]" in capsys.readouterr().err


COMMANDS = [
    "backbone --teacher t.pth --root d --held-out a,b --rate 1e-5",
    "lwl --stage 2 --davis d --init w --decay-at 3,6 --ratio 1:2 --tensorboard",
    "lwl --stage box --init w --held-out a,b --loss-weight 3 --decay-at=",
    "lwl-lite --clips own --features 32 --bfloat16 --resume",
    "e-osvos --phase parent --init w --scale 0.5,2",
    "rvos --task zero-shot --clips own --recurrence S --inferred-from 1",
    "e-osvos --phase meta --coco c --per model --device cuda:1",
]


@pytest.mark.parametrize("line", COMMANDS)
def test_options_that_are_printed_are_read_again(tmp_path, capsys, line):
    network, *words = [*line.split(), "--out", 'a "folder"\n']
    assert main(["train", network, *words, "--print-config"]) == 0
    printed = capsys.readouterr().out
    path = write(tmp_path, printed)
    assert main(["train", network, "--config", path, "--print-config"]) == 0
    assert capsys.readouterr().out == printed

    parser = TrainingParser()
    kind = train._NETWORKS[network]
    kind.declare(parser)
    parser.add_argument("--device", default="auto")
    given, read = parser.parse_args(words), parser.parse_args(["--config", path])
    preset = kind.preset(given)
    assert read_settings(read, preset) == read_settings(given, preset)
    settings = asdict(preset)
    for name, value in vars(given).items():
        if name not in settings or name in kind.implied:
            assert getattr(read, name) == value or name == "config"


def test_all_settings_are_printed_and_checked(capsys):
    words = ["train", "lwl", "--stage", "2", "--out", "x", "--print-config"]
    assert main(words) == 0
    printed = tomllib.loads(capsys.readouterr().out)
    preset = STAGES["2"]
    assert {f.name.replace("_", "-") for f in fields(preset)} <= printed.keys()
    assert (printed["stage"], printed["out"], printed["window"]) == ("2", "x", 100)
    assert printed["decay-at"] == list(preset.decay_at)
    assert main([*words, "--batch-size", "0"]) == 2
    assert capsys.readouterr().err == "innerloop-vos: error: batch_size should be positive, got 0\n"
