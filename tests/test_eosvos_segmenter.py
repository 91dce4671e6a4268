"""e-OSVOS on video: tiny frames with flat squares, and a tiny network that was trained on them."""

import copy
import time
from dataclasses import replace

import pytest
import torch
from continuing import check_goes_on

import innerloop as il
from innerloop.errors import InputError
from innerloop_vos.configuration.options import read_options
from innerloop_vos.eosvos import EOSVOSOptions, EOSVOSSegmenter, adapted_object, eosvos_mobilenet_v2
from innerloop_vos.eosvos.augmentation import augmented
from innerloop_vos.eosvos.boxes import jittered_boxes
from innerloop_vos.eosvos.finetuning import Batch, training_loss
from innerloop_vos.runs.progress import WorkBar
from innerloop_vos.scoring import region_similarity
from innerloop_vos.segmenter import Progress

SIZE = (48, 64)
QUICK = EOSVOSOptions(steps=3, copies=2, online_steps=2, proposals=50, propagated=20)


def scene(*boxes, seed=0):
    """A frame with a square of another colour in each box (left, top, width, height) or None."""
    generator = torch.Generator().manual_seed(seed)
    frame = 0.2 + 0.2 * torch.rand(3, *SIZE, generator=generator)
    masks = torch.zeros(SIZE, dtype=torch.uint8)
    for id_, box in enumerate(boxes, 1):
        if box is not None:
            x, y, width, height = box
            colour = torch.rand(3, generator=torch.Generator().manual_seed(id_))
            colour = colour / colour.max()
            frame[:, y : y + height, x : x + width] = colour[:, None, None]
            masks[y : y + height, x : x + width] = id_
    return (255 * frame).byte(), masks


def random_box(generator):
    width, height = torch.randint(6, 24, (2,), generator=generator).tolist()
    x = int(torch.randint(SIZE[1] - width, (), generator=generator))
    y = int(torch.randint(SIZE[0] - height, (), generator=generator))
    return x, y, width, height


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    network = eosvos_mobilenet_v2(
        channels=16,
        image_size=SIZE,
        anchors=(8, 16, 32, 48, 64),
        box_features=32,
        mask_features=16,
        mask_pooling=7,
        sampled_anchors=64,
        sampled_boxes=32,
        proposals=(2000, 1000),
    )
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    generator = torch.Generator().manual_seed(1)
    for step in range(240):
        batch = Batch([], [])
        for index in range(2):
            id_ = 1 + int(torch.randint(4, (), generator=generator))
            boxes = [None] * (id_ - 1) + [random_box(generator)]
            frame, masks = scene(*boxes, seed=2 * step + index)
            batch.images.append(frame / 255)
            batch.masks.append(masks > 0)
        optimizer.zero_grad()
        training_loss(network, batch).backward()
        optimizer.step()
    return network


@pytest.fixture(scope="module")
def rates(network):
    return il.LearningRates(network, per="neuron", init=0.02)


def run(segmenter, scenes):
    """Segment (frame, masks) pairs, of which the first masks are given."""
    (frame, masks), *rest = scenes
    return [segmenter.start(frame, masks), *(segmenter.step(frame) for frame, _ in rest)]


def test_follows_a_square(network, rates):
    scenes = [scene((4 + 4 * t, 10 + 2 * t, 14, 12), seed=t) for t in range(9)]
    found = run(EOSVOSSegmenter(network, rates), scenes)

    def score(masks):
        pairs = zip(masks, scenes[1:], strict=True)
        return sum(region_similarity(mask == 1, truth == 1) for mask, (_, truth) in pairs) / 8

    staying = score([found[0]] * 8)
    assert staying < 0.1
    assert score(found[1:]) > 0.4


def test_an_object_that_leaves_is_found_when_it_returns(network, rates):
    away = [None] * 6
    places = [(20, 16, 14, 12), (22, 16, 14, 12), *away, (24, 18, 14, 12), (24, 18, 14, 12)]
    scenes = [scene(place, seed=t) for t, place in enumerate(places)]
    found = run(EOSVOSSegmenter(network, rates, QUICK), scenes)
    absent = torch.stack(found[2:8])
    assert (absent > 0).float().mean() < 0.02
    assert region_similarity(found[-1] == 1, scenes[-1][1] == 1) > 0.5


def test_an_object_of_sixteen_pixels(network, rates):
    scenes = [scene((30 + t, 20, 4, 4), seed=t) for t in range(7)]
    found = run(EOSVOSSegmenter(network, rates, replace(QUICK, rate_factor=0.5)), scenes)
    # Of so small a network, masks are coarse, and rounding makes them others on other processors.
    assert all((mask > 0).sum() < 0.1 * mask.numel() for mask in found)


def test_ten_objects_at_once(network, rates):
    def boxes(t):
        return [(2 + 12 * (i % 5) + t, 6 + 22 * (i // 5), 9, 12) for i in range(10)]

    scenes = [scene(*boxes(t), seed=t) for t in range(3)]
    segmenter = EOSVOSSegmenter(network, rates, replace(QUICK, rate_factor=0.5))
    found = run(segmenter, scenes)
    assert segmenter.ids == list(range(1, 11))
    assert segmenter.probabilities.shape == (11, *SIZE)
    torch.testing.assert_close(segmenter.probabilities.sum(0), torch.ones(SIZE))
    truth = scenes[-1][1]
    # Better than all of the frame, 0.35; how much better depends on the processor's rounding.
    assert region_similarity(found[-1] > 0, truth > 0) > 0.4
    assert set(found[-1].unique().tolist()) <= set(range(11))


def test_a_first_mask_that_covers_the_frame(network, rates):
    frames = [scene((0, 0, 64, 48), seed=t) for t in range(7)]
    found = run(EOSVOSSegmenter(network, rates, QUICK), frames)
    assert (found[0] == 1).all()
    assert (torch.stack(found[1:]) == 1).float().mean() > 0.5


def test_objects_do_not_depend_on_each_other(network, rates):
    def alone_and_together(*ids):
        first, masks = scene((4, 4, 16, 14), (40, 28, 16, 14))
        keep = torch.isin(masks, torch.tensor(ids, dtype=torch.uint8))
        segmenter = EOSVOSSegmenter(network, rates, QUICK)
        segmenter.start(first, masks * keep)
        return segmenter.track(segmenter.encode(first)).logits

    both = alone_and_together(1, 2)
    assert both[0].equal(alone_and_together(1)[0])
    assert both[1].equal(alone_and_together(2)[0])


def test_layers_that_do_not_learn_are_passed_once_for_all_objects(network, rates):
    rates = copy.deepcopy(rates)
    with torch.no_grad():
        for name, rate in rates.named_parameters():
            if name.startswith("backbone-body-") and int(name.split("-")[2]) < 7:
                rate.zero_()
    scenes = [scene((4 + t, 4, 16, 14), (40, 28 - t, 16, 14), seed=t) for t in range(6)]
    passed = []

    def found(depth):
        segmenter = EOSVOSSegmenter(network, rates, QUICK)
        assert segmenter._depth == 7
        segmenter._depth = depth
        passed.clear()
        tuned = segmenter.network.module
        networks = (segmenter._frozen, tuned)
        for layer in {next(iter(network.backbone.body.children())) for network in networks}:
            layer.register_forward_hook(lambda *_: passed.append(1))
        masks = run(segmenter, scenes)
        return masks, segmenter.probabilities, len(passed)

    shared, alone = found(7), found(0)
    assert all(one.equal(other) for one, other in zip(shared[0], alone[0], strict=True))
    assert shared[1].equal(alone[1])
    # Every frame once; each object three steps on copies of the first, and one online batch.
    assert shared[2] == 6 + 2 * (QUICK.steps + 1)
    assert alone[2] == 5 * 2 + 2 * (QUICK.steps + QUICK.online_steps)


def test_a_fine_tuning_that_diverges_is_left_out_with_a_warning(network):
    scenes = [scene((4 + t, 4, 16, 14), seed=t) for t in range(6)]
    wild = il.LearningRates(network, per="model", init=1e30)
    with pytest.warns(UserWarning, match="fine-tuning diverged and is skipped, in frame 1 of an"):
        found = run(EOSVOSSegmenter(network, wild, QUICK), scenes)
    still = EOSVOSOptions(steps=0, online_interval=None, proposals=50, propagated=20)
    as_it_was = run(EOSVOSSegmenter(network, wild, still), scenes)
    assert all(one.equal(other) for one, other in zip(found, as_it_was, strict=True))


def test_every_step_of_fine_tuning_is_reported(network, rates):
    options = EOSVOSOptions(steps=3, online_interval=2, online_steps=2)
    segmenter = EOSVOSSegmenter(network, rates, options)
    told = []
    segmenter.on_progress = told.append
    run(segmenter, [scene((4, 10, 14, 12), (40, 20, 14, 12), seed=t) for t in range(2)])
    steps = [(p.what, p.done, p.total) for p in told]
    first = [(f"fine-tuning object {i}", t, 3) for i in (1, 2) for t in (1, 2, 3)]
    assert steps == first + [(f"fine-tuning object {i}", t, 2) for i in (1, 2) for t in (1, 2)]
    assert all(p.loss > 0 for p in told)


def test_a_bar_shows_the_work_within_a_frame(capsys):
    with WorkBar() as bar:
        for done in (1, 2):
            time.sleep(0.11)  # bars are drawn ten times a second at most
            bar(Progress("fine-tuning object 1", done, 10, 0.5))
        bar(Progress("fine-tuning object 2", 1, 10, 0.25))  # the first one was given up
    shown = capsys.readouterr().err
    assert "fine-tuning object 1" in shown
    assert "fine-tuning object 2" in shown
    assert "loss=0.500" in shown


def test_an_object_that_appears_later(network, rates):
    early, late = (4, 4, 16, 14), (40, 28, 16, 14)
    segmenter = EOSVOSSegmenter(network, rates, QUICK)
    segmenter.start(*scene(early))
    frame, masks = scene(early, late)
    assert (segmenter.step(frame, masks * (masks == 2)) == 2).equal(masks == 2)
    assert segmenter.step(frame).max() <= 2
    assert segmenter.ids == [1, 2]


def test_the_online_adaptation_starts_again_from_the_first_frame(network, rates):
    scenes = [scene((4 + 2 * t, 10, 14, 12), seed=t) for t in range(11)]
    for reset in (True, False):
        options = EOSVOSOptions(steps=3, online_steps=2, proposals=50, reset=reset)
        segmenter = EOSVOSSegmenter(network, rates, options)
        segmenter.start(*scenes[0])
        (target,) = segmenter._targets
        starts, batches = [], []
        fit = target._fit

        def recording(start, next_batch, *others, fit=fit, starts=starts, batches=batches, **more):
            starts.append(start)
            batches.append(next_batch())
            return fit(start, next_batch, *others, **more)

        target._fit = recording
        states = []
        for frame, _ in scenes[1:]:
            segmenter.step(frame)
            states.append(target._adapted)
        assert [state is target._tuned for state in states[:5]] == [True] * 3 + [False] * 2
        assert starts[0] is target._tuned
        assert starts[1] is (target._tuned if reset else states[4])
        # The first frame with the fourth and the third last before the next one.
        assert [round(255 * image.sum().item()) for image in batches[0].images] == [
            int(scenes[t][0].sum()) for t in (0, 2, 1)
        ]


def test_without_online_adaptation_the_parameters_stay(network, rates):
    segmenter = EOSVOSSegmenter(
        network, rates, EOSVOSOptions(steps=1, online_interval=None, proposals=50)
    )
    run(segmenter, [scene((4, 10, 14, 12), seed=t) for t in range(7)])
    (target,) = segmenter._targets
    assert target._adapted is target._tuned


def test_the_same_seed_gives_the_same_masks(network, rates):
    scenes = [scene((4 + 4 * t, 10, 14, 12), seed=t) for t in range(3)]
    one, two = (torch.stack(run(EOSVOSSegmenter(network, rates, QUICK), scenes)) for _ in "12")
    assert one.equal(two)


def test_the_network_stays_as_it_is(network, rates):
    before = {name: p.clone() for name, p in network.named_parameters()}
    run(EOSVOSSegmenter(network, rates, QUICK), [scene((4, 10, 14, 12)), scene((6, 10, 14, 12))])
    for name, p in network.named_parameters():
        assert p.equal(before[name])
        assert p.requires_grad


def test_merging_takes_the_likeliest_object_that_is_likely(network, rates):
    probabilities = torch.tensor([[0.6, 0.45, 0.7], [0.8, 0.45, 0.1]])[:, None]
    merged = EOSVOSSegmenter(network, rates).merge(probabilities.logit())
    assert merged.argmax(0).tolist() == [[2, 0, 1]]
    torch.testing.assert_close(merged.sum(0), torch.ones(1, 3))


def test_a_mask_from_a_box_lies_inside_it(network, rates):
    frame, masks = scene((20, 12, 16, 14))
    mask = EOSVOSSegmenter(network, rates).mask_from_box(frame, (18, 10, 20, 18))
    assert mask.any()
    assert not mask[:10].any()
    assert region_similarity(mask == 1, masks == 1) > 0.5


def test_boxes_move_outward_only_and_stay_inside_the_image():
    mask = torch.zeros(SIZE, dtype=torch.bool)
    mask[10:20, 2:42] = True
    boxes = jittered_boxes(mask, 200, 0.1)
    assert boxes.shape == (200, 4)
    least, greatest = boxes.amin(0), boxes.amax(0)
    assert greatest[0] <= 2
    assert least[0] == 0
    assert 9 <= least[1] <= greatest[1] <= 10
    assert 42 <= least[2] <= greatest[2] <= 46
    assert 20 <= least[3] <= greatest[3] <= 21
    assert jittered_boxes(torch.zeros_like(mask), 5, 0.1).shape == (0, 4)


def test_augmented_copies_keep_the_object():
    frame, masks = scene((0, 0, 3, 3))
    for seed in range(20):
        torch.manual_seed(seed)
        image, mask = augmented(frame / 255, masks == 1, EOSVOSOptions())
        assert mask.any()
        assert mask.shape == SIZE
        assert image.shape == frame.shape
        _, whole = augmented(frame / 255, torch.ones(SIZE, dtype=torch.bool), EOSVOSOptions())
        assert whole.all()
    still = EOSVOSOptions(flip=False, rotation=0, scale=(1, 1))
    image, mask = augmented(frame / 255, masks == 1, still)
    torch.testing.assert_close(image, frame / 255, atol=1e-4, rtol=0)
    assert mask.equal(masks == 1)


def test_a_factor_scales_all_rates(network):
    rates = il.LearningRates(network, per="tensor", init=0.01)
    segmenter = EOSVOSSegmenter(network, rates, replace(QUICK, rate_factor=0.3))
    others = EOSVOSSegmenter(network, il.LearningRates(network, per="tensor", init=0.003), QUICK)
    assert segmenter.rates.keys() == others.rates.keys()
    for name, rate in others.rates.items():
        torch.testing.assert_close(segmenter.rates[name], rate)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"steps": -1}, "steps: -1, should be at least 0"),
        ({"copies": 0}, "copies: 0, should be at least 1"),
        ({"rate_factor": 0.0}, "rate_factor: 0.0, should be positive"),
        ({"proposals": 0, "propagated": 0}, "proposals: 0"),
        ({"online_interval": 0}, "online_interval: 0, should be at least 1"),
        ({"online_lags": (0,)}, "online_lags"),
        ({"scale": (1.2, 0.8)}, "scale"),
        ({"rotation": -1.0}, "rotation"),
    ],
)
def test_wrong_options_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        EOSVOSOptions(**wrong)


def test_options_are_read_by_name():
    words = ["online_interval=None", "scale=0.8,1.2", "reset=False", "box_jitter=0.2"]
    read = read_options(words, EOSVOSOptions(steps=50))
    assert read == EOSVOSOptions(
        steps=50, online_interval=None, scale=(0.8, 1.2), reset=False, box_jitter=0.2
    )


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("interval=3", "option: 'interval' is unknown; there are steps, rate_factor, copies"),
        ("copies", "option: 'copies' should be NAME=VALUE"),
        ("copies=three", "option: 'copies=three' should be NAME=VALUE"),
        ("copies=0", "option: copies: 0, should be at least 1"),
        ("online_lags=3", "option: 'online_lags=3', should be several by commas"),
    ],
)
def test_wrong_words_for_options_are_refused(word, message):
    with pytest.raises(InputError, match=message):
        read_options([word], EOSVOSOptions())


@pytest.mark.parametrize("reset", [True, False])
def test_another_process_goes_on_to_the_same_bits(network, rates, tmp_path, reset):
    options = replace(QUICK, online_interval=2, online_lags=(1, 2), reset=reset)
    places = [(4 + 3 * t, 10, 14, 12) for t in range(6)]
    scenes = [
        scene(place, (40, 28, 12, 14) if t else None, seed=t) for t, place in enumerate(places)
    ]
    frames = [frame for frame, _ in scenes]
    given = {0: scenes[0][1], 2: scenes[2][1]}  # the other object appears later
    corrections = {3: scenes[3][1] * (scenes[3][1] == 1)}  # and is said to be absent

    def make():
        return EOSVOSSegmenter(network, rates, options)

    found = check_goes_on(make, frames, given, tmp_path, corrections=corrections)
    assert found[-1].any()
    assert not found[1].equal(found[-1])


def test_a_lost_object_is_followed_again_from_a_correction(network, rates):
    # The object takes another colour, and something else appears, which is followed instead.
    first = scene((8, 14, 14, 12))
    later = [scene(None, (8 + t, 14, 14, 12), (42 - t, 26, 14, 12), seed=t) for t in range(1, 5)]
    scores = []
    for corrected in (False, True):
        segmenter = EOSVOSSegmenter(network, rates, replace(QUICK, steps=6, online_interval=None))
        segmenter.start(*first)
        segmenter.step(later[0][0])
        if corrected:
            frame, masks = later[1]
            segmenter.correct(frame, (masks == 2).byte())
        pairs = [(segmenter.step(frame), masks) for frame, masks in later[2:]]
        scores.append([region_similarity(found == 1, masks == 2) for found, masks in pairs])
    assert max(scores[0]) < 0.1
    assert min(scores[1]) > 0.4


@pytest.mark.parametrize("reset", [True, False])
def test_a_corrected_frame_is_learned_from_with_the_first_one(network, rates, monkeypatch, reset):
    scenes = [scene((10 + 2 * t, 14, 14, 12), seed=t) for t in range(3)]
    learned = []

    def fit(start, rates, next_batch, steps, **more):
        learned.append((start, next_batch().images))
        result = copy.copy(start)
        results.append(result)
        return result

    results = []
    monkeypatch.setattr(adapted_object, "fine_tune", fit)
    options = replace(QUICK, online_interval=2, online_lags=(1,), reset=reset)
    segmenter = EOSVOSSegmenter(network, rates, options)
    segmenter.start(*scenes[0])
    segmenter.step(scenes[1][0])
    segmenter.correct(*scenes[1])
    segmenter.step(scenes[2][0])
    assert [len(images) for _, images in learned][::2] == [options.copies, 2 * options.copies]
    start, images = learned[-1]
    assert start is results[-2]  # of both frames, whether an adaptation starts anew or goes on
    for image, (frame, _) in zip(images, scenes, strict=False):
        torch.testing.assert_close(image, frame / 255)


def test_a_correction_that_diverges_leaves_the_network(network, rates):
    segmenter = EOSVOSSegmenter(network, rates, QUICK)
    frame, masks = scene((10, 14, 14, 12))
    segmenter.start(frame, masks)
    before = segmenter.state_dict()["learned"][0]["tuned"]
    segmenter.rates.update({name: 1e12 * rate for name, rate in segmenter.rates.items()})
    with pytest.warns(UserWarning, match="fine-tuning diverged"):
        segmenter.correct(frame, masks)
    after = segmenter.state_dict()["learned"][0]["tuned"]
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_states_of_before_there_were_corrections_load(network, rates):
    frame, masks = scene((10, 14, 14, 12))
    segmenter, again = (EOSVOSSegmenter(network, rates, QUICK) for _ in range(2))
    segmenter.start(frame, masks)
    state = segmenter.state_dict()
    del state["learned"][0]["corrected"]
    again.load_state_dict(state)
    assert torch.equal(segmenter.step(frame), again.step(frame))
