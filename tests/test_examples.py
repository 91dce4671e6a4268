"""Every example runs on its own and prints its result."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.error import URLError

import pytest
import torch

EXAMPLES = Path(__file__).parents[1] / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.py"))
DOWNLOADING = "omniglot"


FEW_ITERATIONS = "20"


@pytest.mark.slow
@pytest.mark.parametrize(
    "script",
    [path for path in SCRIPTS if path.stem not in ("data", DOWNLOADING)],
    ids=lambda path: path.stem,
)
def test_example_runs(script):
    pytest.importorskip("sklearn")
    command = [sys.executable, script, FEW_ITERATIONS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert "trained" in done.stdout or "after" in done.stdout


@pytest.fixture
def omniglot(monkeypatch):
    pytest.importorskip("sklearn")
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return pytest.importorskip(DOWNLOADING)


def test_omniglot_learns_from_a_folder_laid_out_as_torchvision_does(
    omniglot, tmp_path, monkeypatch
):
    from PIL import Image

    torch.manual_seed(0)
    root = tmp_path / "omniglot-py"
    checksums = {}
    for part in ("images_background", "images_evaluation"):
        for character in range(6):
            folder = root / part / "Alphabet" / f"character{character + 1:02}"
            folder.mkdir(parents=True)
            ink = torch.rand(7, 7) < 0.3
            for drawer in range(20):
                # Each drawer has an unsteady hand; paper is white, ink black, one bit a pixel.
                drawn = ink ^ (torch.rand(7, 7) < 0.03)
                pixels = (~drawn).repeat_interleave(15, 0).repeat_interleave(15, 1)
                image = Image.fromarray(pixels.numpy().astype("uint8") * 255).convert("1")
                image.save(folder / f"{character:04}_{drawer + 1:02}.png")
        shutil.make_archive(str(root / part), "zip", root, part)
        checksums[part] = hashlib.md5((root / f"{part}.zip").read_bytes()).hexdigest()
    monkeypatch.setattr(omniglot.Omniglot, "zips_md5", checksums)

    images = omniglot.characters(tmp_path, background=True)
    assert [part.shape for part in images] == [(20, 1, 28, 28)] * 6
    assert 0.1 < images[0].mean() < 0.5
    before, after = omniglot.main(tmp_path, iterations=6, test_tasks=20)
    assert after > max(before, 30)


def test_omniglot_says_what_it_could_not_download(omniglot, tmp_path, monkeypatch):
    def unreachable(*args, **kwargs):
        raise URLError("no route")

    monkeypatch.setattr("torchvision.datasets.omniglot.download_and_extract_archive", unreachable)
    with pytest.raises(SystemExit, match=f"omniglot: not in {tmp_path}.*no route") as exit_:
        omniglot.characters(tmp_path, background=True)
    assert exit_.value.code not in (0, None)
