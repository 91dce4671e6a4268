"""The streaming interface, with a method that is told its answers; then the ridge method."""

import pytest
import torch

import innerloop as il
from innerloop.errors import InputError
from innerloop_vos.backbones import backbone
from innerloop_vos.data import synthetic_clip
from innerloop_vos.postprocessing.calibration import calibrate
from innerloop_vos.ridge import RidgeOptions, RidgeSegmenter
from innerloop_vos.runs.segmentation import segment_frames
from innerloop_vos.scoring import region_similarity
from innerloop_vos.segmenter import Observation, Segmenter, soft_aggregate

FRAME = torch.zeros(3, 6, 8, dtype=torch.uint8)


class Scripted(Segmenter):
    """Keeps every object where it was first drawn, and a record of the calls."""

    def reset(self):
        self.masks, self.calls = [], []

    def encode(self, frame):
        return frame

    def add(self, encoded, masks):
        self.calls.append(("add", len(masks)))
        self.masks += list(masks)

    def trust(self, encoded, masks):
        self.calls.append(("trust", masks.flatten(1).any(1).tolist()))
        self.masks = list(masks)

    def keep(self, places):
        self.masks = [self.masks[place] for place in places]

    def track(self, encoded):
        self.calls.append(("track", len(self.masks)))
        return Observation(torch.stack([20.0 * (2 * mask.float() - 1) for mask in self.masks]))

    def update(self, observation, merged):
        self.calls.append(("update", len(merged)))

    def mask_from_box(self, frame, box):
        raise AssertionError


def label_map(**boxes):
    labels = torch.zeros(6, 8, dtype=torch.uint8)
    for name, (rows, columns) in boxes.items():
        labels[rows, columns] = int(name[1:])
    return labels


def test_ids_are_kept_and_objects_may_appear_later():
    segmenter = Scripted()
    first = label_map(o7=(slice(0, 2), slice(0, 3)), o3=(slice(4, 6), slice(0, 3)))
    assert torch.equal(segmenter.start(FRAME, first), first)
    assert segmenter.ids == [3, 7]
    assert torch.equal(segmenter.step(FRAME), first)
    later = label_map(o5=(slice(0, 6), slice(5, 8)), o7=(slice(0, 1), slice(0, 1)))
    result = segmenter.step(FRAME, later)
    assert segmenter.ids == [3, 7, 5]
    assert torch.equal(result, torch.maximum(first, (later == 5) * torch.tensor(5).byte()))
    assert segmenter.probabilities.shape == (4, 6, 8)
    torch.testing.assert_close(segmenter.probabilities.sum(0), torch.ones(6, 8))
    assert segmenter.calls == [
        ("add", 2),
        *[("track", 2), ("update", 2)],
        *[("track", 2), ("update", 2), ("add", 1)],
    ]


def test_a_second_start_forgets_the_first():
    segmenter = Scripted()
    segmenter.start(FRAME, label_map(o1=(slice(0, 2), slice(0, 3))))
    other = label_map(o2=(slice(3, 6), slice(3, 8)))
    segmenter.start(FRAME, other)
    assert torch.equal(segmenter.step(FRAME), other)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("step", [FRAME]), ("correct", [FRAME, label_map()]), ("forget", [[1]])],
)
def test_what_needs_a_video_is_refused_before_its_start(name, arguments):
    with pytest.raises(RuntimeError, match=f"^{name}: call start"):
        getattr(Scripted(), name)(*arguments)


@pytest.mark.parametrize(
    ("frame", "masks", "message"),
    [
        (FRAME.float(), label_map(o1=(0, 0)), r"^frame: .*float32; should be \(3, H, W\) uint8"),
        (FRAME[0], label_map(o1=(0, 0)), r"^frame: shape \(6, 8\)"),
        (FRAME, label_map(), "empty"),
        (FRAME, label_map(o1=(0, 0))[:4], "but the frame is 8x6"),
    ],
)
def test_bad_starts_are_named(frame, masks, message):
    with pytest.raises(InputError, match=message):
        Scripted().start(frame, masks)


@pytest.mark.parametrize("kind", [lambda t: t.numpy(), lambda t: t.tolist(), lambda t: None])
def test_what_is_no_tensor_is_named(kind):
    mask = label_map(o1=(0, 0))
    name = type(kind(FRAME)).__name__
    with pytest.raises(InputError, match=f"^frame: {name}; should be a torch.Tensor"):
        Scripted().start(kind(FRAME), mask)
    with pytest.raises(InputError, match=f"^masks: {name}; should be a torch.Tensor"):
        Scripted().start(FRAME, kind(mask))


def test_a_frame_of_another_size_is_refused():
    segmenter = Scripted()
    segmenter.start(FRAME, label_map(o1=(0, 0)))
    with pytest.raises(InputError, match="first frame is 8x6"):
        segmenter.step(FRAME[:, :4])


def test_frames_before_the_first_mask_are_background():
    mask = label_map(o1=(slice(0, 2), slice(0, 3)))
    clip = type("Clip", (list,), {"size": (6, 8)})([FRAME] * 4)
    found = list(segment_frames(Scripted(), clip, {2: mask}))
    assert [bool(labels.any()) for labels in found] == [False, False, True, True]


def test_a_correction_is_learned_by_known_objects_and_adds_new_ones():
    segmenter = Scripted()
    first = label_map(o7=(slice(0, 2), slice(0, 3)), o3=(slice(4, 6), slice(0, 3)))
    segmenter.start(FRAME, first)
    segmenter.step(FRAME)
    true = label_map(o7=(slice(2, 4), slice(1, 3)), o5=(slice(0, 6), slice(5, 8)))
    segmenter.calls.clear()
    assert torch.equal(segmenter.correct(FRAME, true), true)
    assert segmenter.calls == [("trust", [False, True]), ("add", 1)]
    assert segmenter.ids == [3, 7, 5]
    assert segmenter.observation is None
    expected = torch.stack([true == id_ for id_ in (0, 3, 7, 5)]).float()
    torch.testing.assert_close(segmenter.probabilities, expected)
    assert torch.equal(segmenter.step(FRAME), true)
    assert not segmenter.correct(FRAME, label_map()).any()
    assert segmenter.ids == [3, 7, 5]
    assert not segmenter.step(FRAME).any()


def test_what_an_object_was_that_is_forgotten_is_background():
    segmenter = Scripted()
    boxes = {"o7": (slice(0, 2), slice(0, 3)), "o3": (slice(4, 6), slice(0, 3))}
    segmenter.start(FRAME, label_map(**boxes, o1=(slice(0, 2), slice(5, 8))))
    segmenter.step(FRAME)
    segmenter.forget([1, 7, 1])
    left = label_map(o3=boxes["o3"])
    assert segmenter.ids == [3]
    expected = torch.stack([left == 0, left == 3]).float()
    torch.testing.assert_close(segmenter.probabilities, expected)
    assert torch.equal(segmenter.step(FRAME), left)
    # A forgotten id may come back, as any other.
    segmenter.step(FRAME, label_map(o7=boxes["o7"]))
    assert segmenter.ids == [3, 7]


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([3, 9, 8], r"^ids: \[8, 9\] are not known; there are \[3, 7\]"),
        ([3, 7], r"^ids: \[3, 7\] are all objects, of which one should be left"),
        (3, r"^ids: 3, should be several ids, such as \[3\]"),
    ],
)
def test_ids_that_cannot_be_forgotten_are_named(ids, message):
    segmenter = Scripted()
    segmenter.start(FRAME, label_map(o7=(0, 0), o3=(5, 5)))
    with pytest.raises(InputError, match=message):
        segmenter.forget(ids)
    assert segmenter.ids == [3, 7]


@pytest.mark.parametrize(
    ("frame", "masks", "message"),
    [
        (FRAME[:, :4], label_map(o1=(0, 0)), "first frame is 8x6"),
        (FRAME.float(), label_map(o1=(0, 0)), r"^frame: .*float32; should be \(3, H, W\) uint8"),
        (FRAME, label_map(o1=(0, 0))[:4], "^masks is 8x4 pixels .*, but the frame is 8x6"),
        (FRAME, label_map(o1=(0, 0)).int(), r"^masks should be object ids, \(H, W\) uint8"),
        (FRAME, label_map(o255=(0, 0)), r"^masks holds the value 255, .* \(1 to 254\)"),
        (FRAME, None, "^masks: NoneType; should be a torch.Tensor"),
    ],
)
def test_bad_corrections_are_named_and_change_nothing(frame, masks, message):
    segmenter = Scripted()
    segmenter.start(FRAME, label_map(o1=(0, 0)))
    before = segmenter.probabilities
    with pytest.raises(InputError, match=message):
        segmenter.correct(frame, masks)
    assert segmenter.probabilities is before
    assert segmenter.calls == [("add", 1)]


def test_soft_aggregation_by_hand():
    probabilities = torch.tensor([0.8, 0.3])
    merged = soft_aggregate(probabilities.logit()[:, None, None])[:, 0, 0]
    background = 0.2 * 0.7
    odds = torch.tensor([background / (1 - background), 0.8 / 0.2, 0.3 / 0.7])
    torch.testing.assert_close(merged, odds / odds.sum())
    extreme = soft_aggregate(torch.tensor([[[100.0]], [[-100.0]]]))
    assert extreme.isfinite().all()
    assert extreme[1] > 0.99


def test_calibration_puts_the_decision_between_the_classes():
    scores = torch.zeros(20, 20)
    scores[5:10, 5:10] = 0.6
    level = 0.65 * 0.6
    expected = (scores - level) / 0.6
    torch.testing.assert_close(calibrate(scores), expected)
    # No object: the level stays where it was, above everything.
    assert (calibrate(0.1 * scores) < 0).all()


def ridge(**options):
    return RidgeSegmenter(backbone("small"), RidgeOptions(**options))


@pytest.mark.parametrize(
    ("solver", "length"),
    [(il.ConjugateGradient(), 12), (il.SteepestDescent(), 12), (il.Ridge(), 3)],
)
def test_ridge_follows_objects_of_a_synthetic_clip(solver, length):
    frames, masks = synthetic_clip(length=24, size=(160, 288), objects=2, seed=2)
    frames, masks = frames[:length], masks[:length]
    segmenter = ridge(solver=solver)
    assert torch.equal(segmenter.start(frames[0], masks[0]), masks[0])
    found = [segmenter.step(frame) for frame in frames[1:]]
    for i in (1, 2):
        assert region_similarity(found[-1] == i, masks[-1] == i) > 0.5


def test_ridge_takes_an_object_that_appears_later():
    frames, masks = synthetic_clip(length=6, size=(96, 160), objects=2, late=True, seed=1)
    first = next(t for t in range(6) if (masks[t] == 2).any())
    assert first > 0
    segmenter = ridge()
    found = list(
        segment_frames(
            segmenter,
            type("Clip", (list,), {"size": (96, 160)})(frames),
            {0: masks[0], first: masks[first]},
        )
    )
    assert segmenter.ids == [1, 2]
    assert not (found[first - 1] == 2).any()
    assert region_similarity(found[first] == 2, masks[first] == 2) > 0.95


def test_ridge_survives_a_vanished_object():
    frames, masks = synthetic_clip(length=24, size=(160, 288), objects=1, seed=2)
    segmenter = ridge()
    segmenter.start(frames[0], masks[0])
    for _ in range(3):
        found = segmenter.step(torch.full_like(frames[0], 127))
    assert not found.any()
    assert segmenter.probabilities.isfinite().all()
    assert region_similarity(segmenter.step(frames[1]) == 1, masks[1] == 1) > 0.5


def test_a_box_gives_a_mask_inside_it():
    frames, masks = synthetic_clip(length=1, size=(96, 160), objects=1, seed=1)
    rows, columns = (masks[0] == 1).nonzero(as_tuple=True)
    x, y = int(columns.min()), int(rows.min())
    box = (x, y, int(columns.max()) - x + 1, int(rows.max()) - y + 1)
    mask = ridge().mask_from_box(frames[0], box)
    outside = torch.ones_like(mask)
    outside[y : y + box[3], x : x + box[2]] = 0
    assert mask.any()
    assert not (mask * outside).any()


@pytest.mark.parametrize(
    ("frame", "box", "message"),
    [
        (torch.zeros(96, 160, 3, dtype=torch.uint8), (1, 1, 9, 9), r"frame: shape \(96, 160, 3\)"),
        (torch.zeros(3, 96, 160), (1, 1, 9, 9), r"frame: .* should be \(3, H, W\) uint8"),
        (torch.zeros(3, 96, 160).byte().numpy(), (1, 1, 9, 9), "frame: ndarray"),
        (torch.zeros(3, 96, 160).byte(), (155, 1, 9, 9), "does not lie inside the frame"),
        (torch.zeros(3, 96, 160).byte(), (1, 1, 0, 9), "has no area"),
    ],
)
def test_frames_and_boxes_to_start_from_are_checked(frame, box, message):
    with pytest.raises(InputError, match=message):
        ridge().mask_from_box(frame, box)


def test_features_that_are_not_finite_are_reported():
    segmenter = ridge()
    with torch.no_grad():
        next(segmenter.features.parameters()).fill_(float("nan"))
    frames, masks = synthetic_clip(length=1, size=(96, 160), objects=1)
    with pytest.raises(InputError, match="features: the backbone gives NaN"):
        segmenter.start(frames[0], masks[0])
