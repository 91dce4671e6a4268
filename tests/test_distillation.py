"""The distillation: its loss, its exact resumption, what it exports, and the options."""

import argparse
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from davis_layout import write_davis
from safetensors.torch import load_file
from torch import Tensor

from innerloop.errors import InputError
from innerloop_vos.backbones import backbone
from innerloop_vos.data.synthetic import synthetic_clip
from innerloop_vos.distill.distillation import (
    Distillation,
    DistillationSettings,
    add_arguments,
    train_backbone,
    train_from_arguments,
    unexplained_variance,
)
from innerloop_vos.training.loop import run

TINY = DistillationSettings(iterations=4, batch_size=2, crop=48, warmup=1)
CPU = torch.device("cpu")


def distillation(settings: DistillationSettings = TINY) -> Distillation:
    torch.manual_seed(1)
    teacher = backbone("mobilenet_v2", weights=None)
    frames = list(synthetic_clip(4, (64, 80))[0])
    return Distillation(teacher, frames, frames, frames[:2], settings, CPU)


def test_unexplained_variance_by_hand() -> None:
    # Two pixels with unit vectors e1 and e2: their mean is 0.5 (e1 + e2), their variance 0.5.
    teacher = torch.tensor([[2.0, 0.0], [0.0, 3.0]])[None, :, None]  # (1, 2, 1, 2)
    assert unexplained_variance(5 * teacher, teacher).item() == pytest.approx(0, abs=1e-6)
    mean_only = torch.ones_like(teacher)
    distance = 2 - 2 * 0.5**0.5  # |u - v|^2 of unit vectors, with u.v = 1/sqrt(2)
    assert unexplained_variance(mean_only, teacher).item() == pytest.approx(distance / 0.5)


def test_the_student_learns() -> None:
    settings = DistillationSettings(iterations=40, batch_size=2, crop=48, warmup=5)
    training = distillation(settings)
    losses = [sum(training.step(i).values()) for i in range(settings.iterations)]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_the_teacher_stays_as_it_is() -> None:
    training = distillation()
    before = [p.clone() for p in training.teacher.state_dict().values()]
    training.step(0)
    after = training.teacher.state_dict().values()
    assert all(map(torch.equal, before, after))


def weights_after(folder: Path, stops: list[int]) -> dict[str, Tensor]:
    """Return the exported weights of a training that is saved and built again after each stop."""
    for place, stop in enumerate([*stops, TINY.iterations]):
        run(distillation(), folder, stop, every=100, resume=place > 0)
    return load_file(folder / "small.safetensors")


def test_a_resumed_distillation_ends_with_the_same_weights(tmp_path: Path) -> None:
    whole, parts = weights_after(tmp_path / "a", []), weights_after(tmp_path / "b", [1, 3])
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_resuming_with_other_settings_is_refused(tmp_path: Path) -> None:
    run(distillation(), tmp_path, 1, every=1)
    changed = DistillationSettings(iterations=4, batch_size=2, crop=48, warmup=1, rate=0.5)
    with pytest.raises(InputError, match=r"had other settings: rate 0\.002"):
        run(distillation(changed), tmp_path, 2, every=1, resume=True)


def test_the_export_loads_as_the_small_backbone(tmp_path: Path) -> None:
    training = distillation()
    for iteration in range(4):
        training.step(iteration)
    training.export(tmp_path)
    path = tmp_path / "small.safetensors"
    assert {value.dtype for value in load_file(path).values()} == {torch.float16}
    network, averaged = backbone("small", path), training.averaged.module.eval()
    images = torch.rand(1, 3, 60, 70)
    with torch.inference_mode():
        ours, theirs = network(images), averaged(images)
    for level in network.target_levels:
        assert F.cosine_similarity(ours[level], theirs[level], dim=1).min() > 0.999


@pytest.mark.parametrize(
    ("name", "value"), [("iterations", 0), ("crop", -1), ("rate", 0.0), ("synthetic", 1.5)]
)
def test_settings_out_of_range_are_named(name: str, value: float) -> None:
    with pytest.raises(InputError, match=f"{name} should be .*, got {value}"):
        DistillationSettings(**{name: value})  # type: ignore[arg-type]


@pytest.fixture
def davis(tmp_path: Path) -> Path:
    """A data set of two tiny clips in the layout of DAVIS 2016."""
    return write_davis(tmp_path / "DAVIS", ["cat", "dog"], length=3)


def test_the_command_trains_from_files(davis: Path, tmp_path: Path) -> None:
    teacher, out = tmp_path / "teacher.pth", tmp_path / "out"
    torch.save(backbone("mobilenet_v2", weights=None).state_dict(), teacher)
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    options = f"--teacher {teacher} --root {davis} --out {out} --held-out dog --iterations 2 "
    options += "--batch-size 2 --crop 48 --warmup 1 --synthetic 0"
    assert train_from_arguments(parser.parse_args(options.split()), CPU)
    names = {path.name for path in out.iterdir()}
    assert names == {"checkpoint.pt", "curve.json", "curve.png", "small.safetensors"}


def test_held_out_sequences_must_be_in_the_split(davis: Path, tmp_path: Path) -> None:
    teacher = tmp_path / "teacher.pth"
    torch.save(backbone("mobilenet_v2", weights=None).state_dict(), teacher)
    with pytest.raises(InputError, match="held out: cow not in split 'train'"):
        train_backbone(teacher, davis, tmp_path / "out", held_out=["cow"])
    assert not (tmp_path / "out").exists()
