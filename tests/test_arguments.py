"""Options of the command line from the fields of a dataclass."""

import argparse
from dataclasses import MISSING, dataclass
from typing import Literal

import pytest

from innerloop_vos.configuration.arguments import add_options, described, read_fields


@dataclass(frozen=True)
class Options:
    out_dir: str = described(MISSING, "where it goes, all 100%", metavar="DIR")
    stride: Literal[8, 16] = described(8, "of the features")
    mirror: bool = described(True, "look both ways")
    resume: bool = described(False, "go on")
    count: int | None = described(None, "how many, if any")
    layers: int = described(0, "that rest")
    widths: tuple[int, ...] = described((16, 32), "coarse to fine")
    names: tuple[str, ...] = described((), "to leave out")
    share: float = described(0.5, "of all", type=lambda text: float(text.rstrip("%")) / 100)


@pytest.fixture
def parser():
    made = argparse.ArgumentParser(prog="run")
    add_options(made.add_argument_group("options"), Options, layers=3)
    return made


def test_a_field_is_an_option_of_its_type_and_default(parser):
    assert read_fields(parser.parse_args(["--out-dir", "x"]), Options) == Options("x", layers=3)
    line = "--out-dir x --stride 16 --no-mirror --resume --count 4 --layers 1 --widths 3,4,5"
    arguments = parser.parse_args([*line.split(), "--names", "a,b", "--share", "20%"])
    expected = Options("x", 16, False, True, 4, 1, (3, 4, 5), ("a", "b"), 0.2)
    assert read_fields(arguments, Options) == expected


def test_the_help_is_that_of_the_field_with_its_default(parser):
    text = " ".join(parser.format_help().split())
    for line in (
        "--out-dir DIR where it goes, all 100% --stride",
        "--stride {8,16} of the features (default: 8)",
        "--mirror, --no-mirror look both ways (default: True)",
        "--resume, --no-resume go on --count",
        "--count COUNT how many, if any --layers",
        "--layers LAYERS that rest (default: 3)",
        "--widths VALUE,... coarse to fine (default: 16,32)",
        "--names VALUE,... to leave out --share",
    ):
        assert line in text


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "the following arguments are required: --out-dir"),
        ("--out-dir x --stride 4", "argument --stride: invalid choice: 4"),
        ("--out-dir x --count many", "argument --count: invalid int value: 'many'"),
        ("--out-dir x --widths 1,b", "argument --widths: invalid values value: '1,b'"),
    ],
)
def test_what_is_wrong_is_named(parser, capsys, line, message):
    with pytest.raises(SystemExit):
        parser.parse_args(line.split())
    assert message in capsys.readouterr().err
