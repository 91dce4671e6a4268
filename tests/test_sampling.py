"""Mini-sequences: which frames are drawn, what is pasted into them, and how they are cropped."""

import json
import math

import pytest
import torch
from davis_layout import write_davis

from innerloop.errors import InputError
from innerloop_vos.data import DavisDataset, Sequence, synthetic_clip
from innerloop_vos.data.jitter import CropSampler, Jitter, augment
from innerloop_vos.data.pasting import PastingSampler, Path, draw_path, paste
from innerloop_vos.data.sampling import ClipSampler, MiniSequence, MixedSampler
from innerloop_vos.data.youtube_vos import YouTubeVOSDataset

SIZE = (40, 60)


def clip(visible, length=40, name="clip", unannotated=()):
    """A clip whose frame t is of the colour t, with object 1 in some of its frames."""
    frames = [torch.full((3, *SIZE), t, dtype=torch.uint8) for t in range(length)]
    masks = [torch.zeros(SIZE, dtype=torch.uint8) for _ in range(length)]
    for t in visible:
        masks[t][10:20, 20:30] = 1
    return Sequence(name, frames, [None if t in unannotated else m for t, m in enumerate(masks)])


def image(colour):
    """A clip of one frame, with an object."""
    still = clip([0], length=1, name=str(colour))
    still.frames[0].fill_(colour)
    return still


def times(sample):
    return [int(frame[0, 0, 0]) for frame in sample.frames]


def square(x, y, side, colour, frames=3):
    frame = torch.full((3, *SIZE), colour, dtype=torch.uint8)
    mask = torch.zeros(SIZE, dtype=torch.bool)
    mask[y : y + side, x : x + side] = True
    return MiniSequence([frame] * frames, [mask] * frames)


class Always:
    def __init__(self, sample):
        self._sample = sample

    def sample(self):
        return self._sample


def test_frames_are_visible_sorted_and_from_one_window():
    torch.manual_seed(0)
    visible = [t for t in range(40) if t % 3]
    sampler = ClipSampler([clip(visible, unannotated=(1, 2))], length=4, window=10)
    drawn = [times(sampler.sample()) for _ in range(60)]
    assert all(t in visible and t > 2 for sample in drawn for t in sample)
    assert all(sample == sorted(sample) and len(sample) == 4 for sample in drawn)
    assert all(sample[-1] - sample[0] <= 10 for sample in drawn)
    # With replacement, over the whole clip.
    assert any(len(set(sample)) < 4 for sample in drawn)
    assert min(min(drawn)) < 8
    assert max(max(sample) for sample in drawn) > 32


def test_without_replacement_each_clip_is_drawn_once_a_round():
    torch.manual_seed(0)
    clips = [image(t) for t in range(7)]
    sampler = ClipSampler(clips, length=1, replacement=False)
    rounds = [[times(sampler.sample())[0] for _ in clips] for _ in range(20)]
    assert all(sorted(drawn) == list(range(7)) for drawn in rounds)
    assert len(set(map(tuple, rounds))) > 15
    again = ClipSampler(clips, length=1)
    assert any(len({times(again.sample())[0] for _ in clips}) < 7 for _ in range(20))


def test_rounds_go_on_from_a_place_and_the_generator():
    torch.manual_seed(0)
    clips = [image(t) for t in range(7)]

    def make():
        parts = [ClipSampler(clips[:3], 1, replacement=False)]
        parts += [ClipSampler(clips[3:], 1, replacement=end) for end in (True, False)]
        return PastingSampler(MixedSampler(parts, (1, 1, 1)), 0.5)

    sampler = make()
    for drawn in range(12):
        place, state = sampler.place(), torch.get_rng_state()
        assert place.shape == (4,)
        ahead = [times(sampler.sample()) for _ in range(9)]
        other = make()
        other.go_to(place)
        torch.set_rng_state(state)
        assert [times(other.sample()) for _ in range(9)] == ahead, drawn
        sampler.go_to(place)
        torch.set_rng_state(state)
        sampler.sample()
    with pytest.raises(ValueError, match="place 0, 4 in a round of 3"):
        make().go_to(torch.tensor([0, 4, 0, 4]))


def test_objects_must_be_visible_long_enough():
    torch.manual_seed(0)
    sampler = ClipSampler([clip(range(8)), clip(range(9, 18))], length=2)
    assert all(t >= 9 for _ in range(20) for t in times(sampler.sample()))
    with pytest.raises(InputError, match="no object is visible in more than 8 frames"):
        ClipSampler([clip(range(8))], length=2).sample()
    assert times(ClipSampler([image(7)], length=2).sample()) == [7, 7]


def test_ten_pixels_are_not_visible():
    tiny = clip([])
    for mask in tiny.masks:
        mask[0, :10] = 1
    with pytest.raises(InputError, match="no object is visible"):
        ClipSampler([tiny], length=2).sample()


def test_each_object_of_a_clip_is_a_target():
    torch.manual_seed(0)
    both = clip(range(20))
    for mask in both.masks:
        mask[30:38, 40:48] = 2
    sampler = ClipSampler([both], length=2)
    areas = {int(mask.sum()) for _ in range(20) for mask in sampler.sample().masks}
    assert areas == {100, 64}


def test_data_sets_are_drawn_in_their_ratio():
    torch.manual_seed(0)
    samplers = [Always(square(5, 5, 10, colour)) for colour in (1, 2)]
    mixed = MixedSampler(samplers, (6, 1))
    first = sum(times(mixed.sample())[0] == 1 for _ in range(700))
    assert first == pytest.approx(600, abs=40)
    with pytest.raises(InputError, match="ratio: 6, 0; should be"):
        MixedSampler(samplers, (6, 0))


def test_a_pasted_occluder_moves_and_hides_the_target():
    scene, cutout = square(20, 10, 20, 50), square(3, 4, 10, 200)
    # Of half the side, from the left to the right through the middle of the object.
    path = Path((5.0, 20.0), (55.0, 20.0), 0.5)
    result = paste(scene, cutout, path, target=False, behind=False)
    areas = [int(mask.sum()) for mask in result.masks]
    assert areas[0] == areas[2] == 400
    assert areas[1] == pytest.approx(300, abs=25)
    assert result.frames[1][0, 20, 30] == 200
    assert result.frames[1][0, 20, 5] == 50
    assert scene.masks[1].sum() == 400


@pytest.mark.parametrize("behind", [False, True])
def test_a_pasted_target_passes_in_front_or_behind(behind):
    scene, cutout = square(20, 10, 20, 50), square(3, 4, 10, 200)
    path = Path((12.0, 20.0), (22.0, 20.0), 0.5)
    result = paste(scene, cutout, path, target=True, behind=behind)
    areas = [int(mask.sum()) for mask in result.masks]
    assert areas[0] == pytest.approx(100, abs=25)
    assert all((result.frames[t][0][result.masks[t]] > 100).all() for t in range(3))
    if behind:
        assert not (result.masks[2] & scene.masks[2]).any()
        assert areas[2] < 100


def test_a_paste_that_leaves_no_target_is_dropped():
    scene, cutout = square(20, 10, 20, 50), square(3, 4, 10, 200)
    hiding = Path((30.0, 20.0), (30.0, 20.0), 3.0)
    assert paste(scene, cutout, hiding, target=False, behind=False) is scene
    outside = Path((-90.0, 0.0), (-90.0, 0.0), 1.0)
    assert paste(scene, cutout, outside, target=True, behind=False) is scene


def test_the_share_of_pasted_mini_sequences():
    torch.manual_seed(0)
    scene = square(20, 10, 20, 50)
    assert all(PastingSampler(Always(scene), 0.0).sample() is scene for _ in range(20))
    pasted = [PastingSampler(Always(scene), 1.0).sample() for _ in range(20)]
    assert sum(sample is not scene for sample in pasted) > 10
    assert all(mask.sum() > 10 for sample in pasted for mask in sample.masks)


def test_the_jitter_of_boxes():
    torch.manual_seed(0)
    jitter = Jitter((3.0, 2.0), 0.25)
    boxes = torch.tensor([jitter((100, 60, 40, 10)) for _ in range(2000)])
    centres = boxes[:, :2] + boxes[:, 2:] / 2 - torch.tensor([120.0, 65.0])
    assert centres.abs().amax(0) == pytest.approx([30, 20], rel=0.02)  # 3 and 2 half sides of 20
    growth = (boxes[:, 2:] / torch.tensor([40.0, 10.0])).log()
    assert growth.std(0).tolist() == pytest.approx([0.25, 0.25], rel=0.1)


def test_crops_show_the_target():
    torch.manual_seed(0)
    frames, masks = synthetic_clip(12, (96, 120), objects=1, seed=4)
    whole = Sequence("clip", list(frames), list(masks))
    images, cropped = CropSampler(ClipSampler([whole], 3), (48, 64)).batch(6)
    assert images.shape == (6, 3, 3, 48, 64)
    assert images.dtype == cropped.dtype == torch.float32
    assert cropped.shape == (6, 3, 48, 64)
    assert 0 <= images.min() < images.max() <= 1
    assert set(cropped.unique().tolist()) == {0, 1}
    assert (cropped[:, 0].sum((1, 2)) > 10).all()


def test_crops_that_lose_the_target_are_drawn_again_and_at_last_given_up():
    speck = square(20, 10, 1, 50)
    with pytest.raises(InputError, match="in 100 mini-sequences, none has an object"):
        CropSampler(Always(speck), (8, 8)).batch(1)


def test_image_and_mask_are_augmented_alike():
    torch.manual_seed(0)
    mask = torch.zeros(60, 80)
    mask[20:40, 30:55] = 1
    areas = []
    for _ in range(30):
        image, turned = augment(mask.expand(3, -1, -1), mask)
        brightest = image.max()
        assert 0.8 <= brightest <= 1
        assert ((image[0] > brightest / 2) != turned.bool()).sum() < 15
        areas.append(float(turned.sum() / mask.sum()))
    assert math.exp(-0.45) < min(areas) < max(areas) < math.exp(0.45)


def test_colours_can_stay_as_they_are():
    torch.manual_seed(0)
    scene = square(20, 10, 20, 50)
    for frame in scene.frames:
        frame[1] = 90
    drawn = {colours: [] for colours in (True, False)}
    for colours, seen in drawn.items():
        crops = CropSampler(Always(scene), (48, 64), colours=colours)
        for _ in range(60):
            seen += crops.batch(1)[0].flatten(3).amax(3).mul(255).round().reshape(-1, 3).tolist()
    assert all(each == [50, 90, 50] for each in drawn[False])
    assert any(red == green for red, green, _ in drawn[True])
    assert min(green for _, green, _ in drawn[True]) < 75
    assert max(green for _, green, _ in drawn[True]) > 105


def test_draws_depend_on_the_generator_alone():
    frames, masks = synthetic_clip(12, (96, 120), objects=2, seed=4)
    whole = Sequence("clip", list(frames), list(masks))
    crops = CropSampler(PastingSampler(ClipSampler([whole], 3), 0.5), (48, 64))
    crops.batch(2)
    state = torch.get_rng_state()
    first = crops.batch(2)
    torch.set_rng_state(state)
    fresh = CropSampler(PastingSampler(ClipSampler([whole], 3), 0.5), (48, 64))
    assert all(map(torch.equal, first, fresh.batch(2)))


def test_youtube_vos_as_it_is_distributed(tmp_path):
    davis = write_davis(tmp_path / "davis", ["0a2f2bd294", "003234408d"], length=3)
    split = tmp_path / "ytvos" / "train"
    split.mkdir(parents=True)
    for kind in ("JPEGImages", "Annotations"):
        (davis / kind / "480p").rename(split / kind)
    with pytest.raises(InputError, match=r"meta\.json is missing"):
        YouTubeVOSDataset(split.parent)
    (split / "meta.json").write_text(json.dumps({"videos": {"003234408d": {}, "0a2f2bd294": {}}}))
    dataset = YouTubeVOSDataset(split.parent)
    assert dataset.names == ["003234408d", "0a2f2bd294"]
    assert dataset[0].masks[2].max() == 1
    assert YouTubeVOSDataset(split.parent, sequences=["0a2f2bd294"]).names == ["0a2f2bd294"]
    (split / "meta.json").write_text("[]")
    with pytest.raises(InputError, match=r"meta\.json is damaged"):
        YouTubeVOSDataset(split.parent)
    with pytest.raises(InputError, match="not laid out as YouTube-VOS: there is no valid/JPEG"):
        YouTubeVOSDataset(split.parent, split="valid")


def test_davis_clips_can_be_drawn(tmp_path):
    torch.manual_seed(0)
    davis = DavisDataset(write_davis(tmp_path, ["cat"]), split="train")
    assert len(ClipSampler(davis, 3).sample().frames) == 3


def test_objects_that_are_out_of_sight_for_a_frame_can_be_pasted_and_crossed():
    torch.manual_seed(0)
    scene, cutout = square(10, 10, 12, 40), square(20, 15, 10, 200)
    hidden = torch.zeros(SIZE, dtype=torch.bool)
    for index in (1, 2):  # the first frame shows it
        masks = [hidden if t == index else mask for t, mask in enumerate(cutout.masks)]
        gone = MiniSequence(cutout.frames, masks)
        there = paste(scene, gone, Path((30, 20), (40, 20), 1.0), target=False, behind=False)
        assert torch.equal(there.frames[index], scene.frames[index])
        assert not torch.equal(there.frames[0], scene.frames[0])
        for _ in range(4):
            PastingSampler(Always(gone), 1.0).sample()


def test_what_hides_a_target_is_up_to_as_large_as_the_frame():
    torch.manual_seed(0)
    mask = torch.zeros(60, 80, dtype=torch.bool)
    mask[20:26, 30:38] = True  # a hundredth of the frame
    scene = MiniSequence([torch.zeros(3, 60, 80, dtype=torch.uint8)] * 2, [mask] * 2)
    sizes = torch.tensor([draw_path(scene, large=True).size for _ in range(500)])
    assert 0.5 <= sizes.min() < 0.6
    assert 9 < sizes.max() <= 10
    assert 0.4 < (sizes > 2.24).float().mean() < 0.6  # in the middle of the logarithms
    usual = torch.tensor([draw_path(scene).size for _ in range(500)])
    assert usual.max() <= 1.5


def test_what_is_pasted_may_hide_the_target_for_a_while():
    scene, cutout = square(20, 10, 8, 40), square(20, 15, 10, 200)
    across = Path((5, 14), (43, 14), 2.0)  # over the object in the middle frame
    left = paste(scene, cutout, across, target=False, behind=False)
    assert left is scene
    hidden = paste(scene, cutout, across, target=False, behind=False, hide=True)
    assert [bool(mask.any()) for mask in hidden.masks] == [True, False, True]
    at_once = Path((24, 14), (43, 14), 2.0)
    assert paste(scene, cutout, at_once, target=False, behind=False, hide=True) is scene
