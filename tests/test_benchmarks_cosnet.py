"""The ablation of COSNet runs to its end on a small data set, and goes on where it stopped."""

import json
import shutil

import numpy as np
import pytest
import torch
from davis_layout import write_davis
from PIL import Image

from benchmarks.cosnet import ablation, salient
from innerloop.errors import InputError
from innerloop_vos.cosnet import cosnet, save_cosnet
from innerloop_vos.cosnet.builders import FAMILY
from innerloop_vos.data import FolderDataset


def test_forms_references_and_selections_are_compared(tmp_path, capsys, monkeypatch):
    davis = write_davis(tmp_path / "davis", ["cat", "cow"], length=4)
    work = tmp_path / "work"
    torch.manual_seed(0)
    save_cosnet(cosnet(co_attention="symmetric", channels=8), tmp_path / FAMILY.file)
    for form in ("vanilla", "symmetric", "channel"):
        (work / form).mkdir(parents=True)
        save_cosnet(cosnet(co_attention=form, channels=8), work / form / FAMILY.file)
    words = (
        f"--davis {davis} --held-out cow --held-out-frames 4 --iterations 1 --batch-size 1 "
        f"--height 64 --width 96 --warmup 1 --work {work} --output {tmp_path}"
    ).split()
    ablation.main([*words, "--tables", "references"])
    written = json.loads((tmp_path / "ablation.json").read_text())
    assert list(written["rows"]) == [f"symmetric, {n}, uniform" for n in (0, 1, 2, 5, 7)]
    assert list(written["about"]["weights"]) == ["symmetric"]

    ablation.main(words)  # the network without co-attention is trained
    assert (work / "none" / FAMILY.file).exists()
    rows = json.loads((tmp_path / "ablation.json").read_text())["rows"]
    assert len(rows) == 10
    for name, figures in written["rows"].items():
        assert rows[name] == figures
    # A clip of four frames has no more references.
    assert rows["symmetric, 5, uniform"] == rows["symmetric, 7, uniform"]
    assert rows["symmetric, 1, uniform"] != rows["symmetric, 2, uniform"]
    printed = capsys.readouterr().out
    for table in ablation.TABLES.values():
        for name, (row, paper) in table.items():
            assert f"{name:20}{rows[str(row)]['J']:8.1f}" in printed
            assert f"{paper:12.1f}" in printed

    monkeypatch.setattr(ablation, "COSNetSegmenter", None)  # nothing is left to do
    ablation.main(words)
    shutil.copy(tmp_path / FAMILY.file, work / "symmetric" / FAMILY.file)
    with pytest.raises(InputError, match="holds a run with symmetric"):
        ablation.main(words)


def test_images_and_parts_of_them_are_labelled(tmp_path):
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[10:30, 15:45] = 255
    for name, image in (("square", picture), ("empty", 0 * picture)):
        Image.fromarray(image).save(tmp_path / f"{name}.png")
    seen = []

    def saliency(image):
        seen.append(tuple(image.shape[1:]))
        return image.float().mean(0) / 255

    images = sorted(tmp_path.glob("*.png"))
    count = salient.label(images, tmp_path / "out", saliency, parts=3)
    clips = list(FolderDataset(tmp_path / "out"))
    assert count == len(clips) > 1
    assert {clip.name.partition("-")[0] for clip in clips} == {"square"}
    assert len(seen) == 8
    assert seen[0] == seen[4] == (40, 60)
    assert all(15 < height < 33 and 23 < width < 49 for height, width in seen[1:4])
    for clip in clips:
        bright = clip.frames[0].float().mean(0) > 128
        assert ((clip.masks[0] > 0) == bright).float().mean() > 0.97  # but for the JPEG's edges

    half = salient.label(images, tmp_path / "none", lambda image: saliency(image) * 0.6, parts=0)
    assert half == 0  # nothing is certain
