"""The command line where the packages of the extra `vos` are not installed."""

import re
import subprocess
import sys

import pytest

import innerloop

START = """
import sys
from importlib.machinery import PathFinder

class Finder(PathFinder):
    def find_spec(name, path=None, target=None):
        return None if name in hidden else PathFinder.find_spec(name, path, target)

_, hidden, *words = sys.argv
hidden = hidden.split(",")
sys.meta_path[sys.meta_path.index(PathFinder)] = Finder
from innerloop_vos.cli import main

sys.exit(main(words))
"""
EXTRA = "torchvision,numpy,scipy,PIL,av,safetensors,matplotlib,tqdm,rich,tomli_w"


def run(hidden, *words):
    command = [sys.executable, "-c", START, hidden, *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_the_help_is_shown_even_without_torch():
    ended = run(f"{EXTRA},torch", "--help")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "segment a video from its first mask" in ended.stdout


def test_the_version_is_shown():
    ended = run(EXTRA, "--version")
    assert (ended.returncode, ended.stdout) == (0, f"{innerloop.__version__}\n")


@pytest.mark.parametrize(
    ("hidden", "words"),
    [
        (EXTRA, ["segment", "clip.mp4"]),
        (EXTRA, ["train", "--help"]),
        ("av", ["demo"]),
        ("tomli_w", ["train", "lwl"]),
    ],
)
def test_commands_say_what_to_install(hidden, words):
    ended = run(hidden, *words)
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    found = re.fullmatch(
        rf"innerloop-vos: error: {words[0]} needs (\w+), which is not installed: "
        r"pip install 'innerloop\[vos\]'",
        line,
    )
    assert found
    assert found[1] in hidden.split(",")


def test_a_module_of_ours_that_is_missing_is_no_missing_extra():
    ended = run("innerloop_vos.commands.demo", "demo")
    assert ended.returncode == 1
    assert "ModuleNotFoundError" in ended.stderr
