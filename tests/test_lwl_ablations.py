"""The ablations of LWL's paper: each part by itself, and each row from the command line."""

from dataclasses import replace

import pytest
import torch
from davis_layout import write_davis
from lwl_tiny import TinyBackbone, tiny_lwl
from safetensors.torch import load_file, save_file

from innerloop.errors import InputError
from innerloop_vos.cli import main
from innerloop_vos.data import Sequence, synthetic_clip
from innerloop_vos.data.sampling import ClipSampler
from innerloop_vos.io.masks import write_mask
from innerloop_vos.io.video import write_video
from innerloop_vos.lwl import LWL, LWLSegmenter, load_lwl, save_lwl
from innerloop_vos.lwl.model.mask_labels import MaskLabels
from innerloop_vos.lwl.training.end_to_end import WEIGHTS, LWLTraining
from innerloop_vos.lwl.training.losses import LOSSES
from innerloop_vos.lwl.training.stages import LWLTrainingSettings, parameter_groups
from innerloop_vos.training.loop import run
from innerloop_vos.training.validation import Validation

TINY = LWLTrainingSettings(iterations=4, batch_size=4, height=48, width=64, test_frames=2)
MASK = {"labels": "mask", "label_weights": "one", "outputs": 1}
NETWORKS = {"mask": MASK, "one": {"label_weights": "one"}, "released": {}}
ROWS = {
    "baseline": "--labels mask --label-weights one --adjoint detach --projection-rate 0 "
    "--regularization-rate 0 --label-encoder-rate 0",
    "end-to-end": "--labels mask --label-weights one",
    "label generator": "--label-weights one",
    "weight predictor": "",
}
"""The networks of Table 1."""


def training(settings=TINY, **sizes):
    clips = [synthetic_clip(10, (64, 96), objects=2, seed=seed) for seed in range(2)]
    found = [Sequence(f"clip{i}", list(f), list(m)) for i, (f, m) in enumerate(clips)]
    sampler = ClipSampler(found, 1 + settings.test_frames)
    return LWLTraining(tiny_lwl(**sizes), sampler, Validation([], 3), settings)


# ------------------------------------------------------------------ labels and weights


def test_mask_labels_are_the_share_of_the_object_in_each_cell():
    masks = (torch.rand(2, 3, 50, 70) > 0.5).float()
    labels, weights = MaskLabels()(masks)
    assert labels.shape == weights.shape == (2, 3, 1, 4, 5)
    assert (weights == 1).all()
    for row in range(4):
        for column in range(5):
            # The last cells are cut off where the mask ends.
            cell = masks[..., 16 * row : 16 * row + 16, 16 * column : 16 * column + 16]
            torch.testing.assert_close(labels[..., 0, row, column], cell.mean((-2, -1)))


@torch.no_grad()
@pytest.mark.parametrize("sizes", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("size", [(48, 64), (50, 70)])
def test_labels_lie_on_the_grid_of_the_features(sizes, size):
    network = tiny_lwl(**sizes)
    _, features = network.extract(torch.rand(2, 3, *size))
    labels, weights = network.label_encoder(torch.rand(2, *size))
    assert labels.shape == weights.shape
    assert labels.shape[-2:] == features.shape[-2:]
    assert labels.shape[1] == network.target_model.filter_shape[0]


def test_without_a_weight_predictor_the_rest_is_the_released_network():
    released, plain = tiny_lwl(), tiny_lwl(label_weights="one")
    gone = released.state_dict().keys() - plain.state_dict().keys()
    assert gone == {f"label_encoder.samp_w_pred.{name}" for name in ("weight", "bias")}
    plain.load_state_dict({k: v for k, v in released.state_dict().items() if k not in gone})
    masks = torch.rand(2, 48, 64)
    labels, weights = plain.label_encoder(masks)
    torch.testing.assert_close(labels, released.label_encoder(masks)[0])
    assert torch.equal(weights, torch.ones_like(labels))


def test_mask_labels_have_no_parameters():
    names = tiny_lwl(**MASK).state_dict()
    assert not [name for name in names if name.startswith("label_encoder")]


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (MASK | {"outputs": 4}, "outputs: 4, should be 1 with mask labels"),
        (
            MASK | {"label_weights": "learned"},
            "label_weights: learned, should be one with mask labels",
        ),
        ({"labels": "none"}, "labels: none, should be learned or mask"),
        ({"label_weights": "mask"}, "label_weights: mask, should be learned or one"),
    ],
)
def test_labels_that_do_not_go_together_are_named(sizes, message):
    with pytest.raises(InputError, match=message):
        tiny_lwl(**sizes)


# ------------------------------------------------------------------ files and segmenter


@pytest.mark.usefixtures("tiny_backbone")
@pytest.mark.parametrize("sizes", [MASK, {"label_weights": "one"}, {"outputs": 3}])
def test_a_file_holds_the_variant(tmp_path, sizes):
    network = tiny_lwl(**sizes, box=True)
    save_lwl(network, tmp_path / "w.safetensors")
    found = load_lwl(tmp_path / "w.safetensors")
    assert found.sizes == network.sizes
    assert found.sizes.items() >= sizes.items()
    torch.testing.assert_close(found.state_dict(), network.state_dict(), rtol=0, atol=0)


@pytest.mark.usefixtures("tiny_backbone")
def test_files_that_say_nothing_of_labels_hold_the_released_ones(tmp_path, monkeypatch):
    network = tiny_lwl()
    sizes = {k: v for k, v in network.sizes.items() if k not in ("labels", "label_weights")}
    assert len(sizes) == len(network.sizes) - 2
    with monkeypatch.context() as patch:
        patch.setattr(LWL, "sizes", sizes)
        save_lwl(network, tmp_path / "old.safetensors")
    assert load_lwl(tmp_path / "old.safetensors").sizes == network.sizes


@pytest.mark.parametrize("sizes", NETWORKS.values(), ids=NETWORKS)
def test_variants_segment_from_masks_and_from_boxes(sizes):
    frames, masks = synthetic_clip(length=4, size=(90, 150), objects=2, seed=1)
    segmenter = LWLSegmenter(tiny_lwl(**sizes, box=True))
    assert segmenter.mask_from_box(frames[0], (40, 20, 60, 40)).shape == (90, 150)
    for from_boxes in (False, True):
        segmenter.start(frames[0], masks[0], from_boxes=from_boxes)
        for frame in frames[1:]:
            segmenter.step(frame)
        assert segmenter.probabilities.isfinite().all()
    features, _, _, scores, _ = segmenter.memory.samples()
    expected = segmenter.network.target_model.score(segmenter.filters, features)
    torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sizes", NETWORKS.values(), ids=NETWORKS)
def test_variants_have_pictures(sizes):
    pictures = training(**sizes).pictures()
    assert all(picture.shape[0] == 3 for picture in pictures.values())


# ------------------------------------------------------------------ loss


def test_cross_entropy_by_hand():
    logits = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    masks = (torch.rand(2, 3, 4, 5) > 0.5).float()
    loss = LOSSES["cross-entropy"](logits, masks)
    found = logits.detach().sigmoid()
    likely = torch.where(masks == 1, found, 1 - found)
    torch.testing.assert_close(loss, -likely.log().mean())
    (gradient,) = torch.autograd.grad(loss, logits)
    torch.testing.assert_close(gradient, (found - masks) / logits.numel())
    # Far off, where the logarithm of a sigmoid would not be finite.
    assert LOSSES["cross-entropy"](torch.full((1, 1, 1), -1e3), torch.ones(1, 1, 1)) == 1e3


def test_a_training_minimises_the_cross_entropy(monkeypatch):
    task = training(replace(TINY, loss="cross-entropy", loss_weight=2.0))
    logits = torch.randn(4, 2, 48, 64)
    monkeypatch.setattr(task.network, "forward", lambda *args, **kwargs: logits)
    masks = torch.ones(4, 3, 48, 64)
    loss = task._loss(torch.zeros(4, 3, 3, 48, 64), masks)
    torch.testing.assert_close(loss, -2 * logits.sigmoid().log().mean())


# ------------------------------------------------------------------ gradients


def gradients(settings, **sizes):
    """Of a network in double precision on one batch, by the names of the parameters."""
    task = training(settings, **sizes)
    task.network.double()
    torch.manual_seed(3)
    batch = tuple(part.double() for part in task.crops.batch(settings.batch_size))
    task.crops.batch = lambda count: batch
    task.step(0)
    named = task.network.named_parameters()
    return {name: each.grad for name, each in named if each.grad is not None}


def test_detach_sends_no_gradient_through_the_solver():
    for adjoint in ("unroll", "detach"):
        rates = {"label_encoder_rate": 0.0, "regularization_rate": 0.0}
        task = training(replace(TINY, adjoint=adjoint, **rates))
        network = task.network.requires_grad_(True)
        images, masks = task.crops.batch(2)
        # The features of the first frame meet the loss in the solver alone, those of the others
        # when they are scored.
        extract, seen = network.extract, []

        def remembered(images, extract=extract, seen=seen):
            levels, features = extract(images)
            features.retain_grad()
            seen.append(features)
            return levels, features

        network.extract = remembered
        task._loss(images, masks).backward()
        first, others = (each.grad for each in seen)
        assert others.abs().max() > 0
        regularization = network.target_model.filter_optimizer.parameters()
        encoder = network.label_encoder.parameters()
        through = [first, *(each.grad for each in (*regularization, *encoder))]
        assert all((gradient is not None) == (adjoint == "unroll") for gradient in through)
        assert adjoint == "detach" or first.abs().max() > 0


@pytest.mark.parametrize("loss", ["frames", "cross-entropy"])
@pytest.mark.parametrize("sizes", [{}, MASK], ids=["released", "mask"])
def test_parts_of_a_batch_give_the_gradient_of_the_whole(loss, sizes):
    settings = replace(TINY, loss=loss)
    whole = gradients(settings, **sizes)
    for count in (2, 4):
        parts = gradients(replace(settings, accumulate=count), **sizes)
        assert parts.keys() == whole.keys()
        for name, gradient in whole.items():
            scale = max(1.0, gradient.abs().max().item())
            torch.testing.assert_close(parts[name], gradient, rtol=0, atol=1e-12 * scale)
    assert max(gradient.abs().max() for gradient in whole.values()) > 1e-3


def test_a_joint_loss_has_one_sort_for_each_part():
    task = training(replace(TINY, accumulate=2))
    images, masks = task.crops.batch(4)
    task.crops.batch = lambda count: (images, masks)
    halves = [task._loss(images[part], masks[part]).item() for part in (slice(2), slice(2, 4))]
    whole = task._loss(images, masks).item()
    found = task.step(0)["train/loss"]
    assert found == pytest.approx(sum(halves) / 2, rel=1e-6)
    assert abs(found - whole) > 1e-5 * whole


def test_a_part_that_is_not_finite_leaves_the_step_out():
    task = training(replace(TINY, accumulate=2))
    task.step(0)
    before = {name: value.clone() for name, value in task.network.state_dict().items()}
    calls = []

    def spoil(gradient):
        calls.append(gradient)
        return gradient * float("nan") if len(calls) == 1 else gradient

    handle = task.network.decoder.project.conv2.bias.register_hook(spoil)
    assert task.step(1)["left out/share"] == 1
    assert len(calls) == 2
    assert all(torch.equal(before[n], v) for n, v in task.network.state_dict().items())
    handle.remove()
    assert task.step(2)["left out/share"] == 0


def test_a_training_in_parts_resumes_to_the_same_weights(tmp_path):
    settings = replace(TINY, batch_size=2, accumulate=2)
    run(training(settings, **MASK), tmp_path / "whole", 3, every=3)
    for stop in (1, 3):
        run(training(settings, **MASK), tmp_path / "parts", stop, every=3, resume=stop > 1)
    whole, parts = (load_file(tmp_path / name / WEIGHTS) for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


# ------------------------------------------------------------------ what is trained


def test_mask_labels_have_nothing_to_train():
    task = training(**MASK)
    task.step(0)
    parts = ["regularization", "projection", "decoder"]
    assert list(task.rates()) == [f"rate/{part}" for part in parts]
    rates = {"regularization_rate": 0.0, "projection_rate": 0.0, "decoder_rate": 0.0}
    only_labels = replace(TINY, **rates)
    with pytest.raises(InputError, match="label_encoder has nothing to train in this network"):
        parameter_groups(tiny_lwl(**MASK), only_labels)
    assert len(parameter_groups(tiny_lwl(), only_labels)) == 1


def test_the_baseline_trains_the_decoder_alone():
    rates = {"regularization_rate": 0.0, "projection_rate": 0.0}
    task = training(replace(TINY, adjoint="detach", **rates), **MASK)
    before = {name: value.clone() for name, value in task.network.state_dict().items()}
    task.step(0)
    after = task.network.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert {name.partition(".")[0] for name in changed} == {"decoder"}


def test_parts_that_no_gradient_reaches_are_named():
    settings = replace(TINY, adjoint="detach")
    with pytest.raises(
        InputError, match=r"regularization_rate is 0\.0001, should be 0 with adjoint"
    ):
        parameter_groups(tiny_lwl(), settings)
    settings = replace(settings, regularization_rate=0.0)
    with pytest.raises(
        InputError, match=r"label_encoder_rate is 0\.0002, should be 0 with adjoint"
    ):
        parameter_groups(tiny_lwl(), settings)
    assert len(parameter_groups(tiny_lwl(**MASK), settings)) == 2


# ------------------------------------------------------------------ command line


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """Those of a tiny training, without what it starts from."""
    root = write_davis(tmp_path_factory.mktemp("data") / "DAVIS", ["cat", "dog"])
    words = f"train lwl --config lwl-paper-ablation --davis {root} --held-out dog --device cpu "
    words += "--held-out-frames 3 --iterations 2 --batch-size 2 --height 48 --width 64 --window 3 "
    return (words + "--test-frames 1").split()


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    torch.manual_seed(2)
    path = tmp_path_factory.mktemp("weights") / "backbone.safetensors"
    save_file(TinyBackbone().state_dict(), path)
    return f"--backbone-weights {path} --backbone-style caffe".split()


@pytest.mark.usefixtures("tiny_backbone")
@pytest.mark.parametrize("row", ROWS)
def test_a_row_of_table_1_trains_and_then_segments(words, backbone, tmp_path, row):
    out = ["--out", str(tmp_path / "out")]
    assert main([*words, *backbone, *out, *ROWS[row].split()]) == 0
    weights = tmp_path / "out" / WEIGHTS
    sizes, masked = load_lwl(weights).sizes, "--labels mask" in ROWS[row]
    assert (sizes["labels"], sizes["outputs"]) == (("mask", 1) if masked else ("learned", 16))
    assert sizes["label_weights"] == ("one" if "one" in ROWS[row] else "learned")
    frames, masks = synthetic_clip(length=3, size=(90, 150), objects=1, seed=1)
    write_video(tmp_path / "clip.mp4", frames, rate=12)
    write_mask(tmp_path / "mask.png", masks[0])
    found = tmp_path / "found"
    clip = ["segment", str(tmp_path / "clip.mp4"), "--mask", str(tmp_path / "mask.png")]
    method = ["--method", "lwl", "--weights", str(weights), "--option", "output=48,64"]
    assert main([*clip, *method, "--out", str(found)]) == 0
    assert len(list(found.glob("*.png"))) == 3


@pytest.mark.usefixtures("tiny_backbone")
def test_other_losses_and_outputs_train_in_parts(words, backbone, tmp_path):
    more = "--loss cross-entropy --outputs 1 --accumulate 2"
    assert main([*words, *backbone, "--out", str(tmp_path / "out"), *more.split()]) == 0
    assert load_lwl(tmp_path / "out" / WEIGHTS).sizes["outputs"] == 1


@pytest.mark.usefixtures("tiny_backbone")
def test_mask_labels_imply_the_rest(words, backbone, tmp_path):
    out = ["--out", str(tmp_path / "out")]
    assert main([*words, *backbone, *out, "--labels", "mask"]) == 0
    assert load_lwl(tmp_path / "out" / WEIGHTS).sizes.items() >= MASK.items()


@pytest.mark.usefixtures("tiny_backbone")
@pytest.mark.parametrize("stage", ["2", "box"])
def test_later_stages_keep_the_labels_of_their_file(words, tmp_path, stage):
    save_lwl(tiny_lwl(**MASK), tmp_path / "start.safetensors")
    more = ["--init", str(tmp_path / "start.safetensors"), "--out", str(tmp_path / "out")]
    given = ["--labels", "mask", "--outputs", "1"]
    config = words.index("--config")
    name = ["--config", f"lwl-paper-{'box' if stage == 'box' else 'stage2'}"]
    assert main([*words[:config], *name, *words[config + 2 :], *more, *given]) == 0
    sizes = load_lwl(tmp_path / "out" / WEIGHTS).sizes
    assert sizes.items() >= MASK.items()
    assert sizes["box"] == (stage == "box")


@pytest.mark.usefixtures("tiny_backbone")
@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("--labels mask --outputs 4", "outputs: 4, should be 1 with mask labels"),
        ("--labels mask --label-weights learned", "label_weights: learned, should be one"),
        ("--outputs 0", "outputs should be from 1 to 16384, got 0"),
        ("--outputs 99999", "outputs should be from 1 to 16384, got 99999"),
        ("--loss bce", "loss should be one of joint, frames, cross-entropy, got bce"),
        ("--adjoint none", "adjoint should be one of unroll, detach, got none"),
        ("--accumulate 0", "accumulate should be positive, got 0"),
        ("--accumulate 3", "accumulate should be a divisor of batch_size, 2, got 3"),
        ("--adjoint detach", "regularization_rate is 0.01, should be 0 with adjoint detach"),
    ],
)
def test_bad_options_are_named(words, backbone, tmp_path, capsys, more, message):
    assert main([*words, *backbone, "--out", str(tmp_path / "out"), *more.split()]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("tiny_backbone")
@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("--labels mask", "--labels: mask, but the network in"),
        ("--label-weights one", "--label-weights: one, but the network in"),
        ("--outputs 16", "--outputs: 16, but the network in"),
    ],
)
def test_a_file_with_other_labels_is_named(words, tmp_path, capsys, more, message):
    start = tmp_path / "start.safetensors"
    save_lwl(tiny_lwl(), start)
    more = ["--init", str(start), "--out", str(tmp_path / "out"), *more.split()]
    assert main([*words, *more]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert f"start.safetensors has {tiny_lwl().sizes[more[-2][2:].replace('-', '_')]}" in error
