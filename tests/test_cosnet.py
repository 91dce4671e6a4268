"""COSNet: co-attention against explicit loops, the network, its files, and segmentation."""

import itertools
import math
from dataclasses import replace
from functools import cache

import pytest
import torch
from continuing import check_finds_on

from innerloop.errors import InputError
from innerloop_vos.cosnet import (
    FORMS,
    SELECTIONS,
    COSNetOptions,
    COSNetSegmenter,
    cosnet,
)
from innerloop_vos.cosnet.model.co_attention import AFFINITIES, CoAttention
from innerloop_vos.cosnet.selection import local, random, uniform
from innerloop_vos.data import synthetic_clip

C, H, W = 3, 2, 3
SMALL = COSNetOptions(references=2, short_side=64)


def attention(form, channels=C):
    """A co-attention whose weights are random, in double precision."""
    torch.manual_seed(0)
    module = CoAttention(form, channels).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return module


def weight_matrix(module, form):
    """W of S = V_b^T W V_a, by the slides."""
    affinity = module.affinity
    if form == "vanilla":
        return affinity.weight
    if form == "symmetric":
        return affinity.projection.T @ affinity.diagonal.diag() @ affinity.projection
    return affinity.diagonal.diag()


def by_loops(module, form, a, b):
    """The gated summary of b for a, location by location."""
    weights = weight_matrix(module, form).tolist()
    gate, bias = module.gate.weight.flatten().tolist(), module.gate.bias.item()
    va, vb = (x.flatten(1).T.tolist() for x in (a, b))
    found = []
    for target in va:
        scores = [
            sum(other[i] * weights[i][j] * target[j] for i in range(C) for j in range(C))
            for other in vb
        ]
        total = sum(math.exp(s) for s in scores)
        z = [
            sum(math.exp(s) / total * other[i] for s, other in zip(scores, vb, strict=True))
            for i in range(C)
        ]
        opened = 1 / (1 + math.exp(-sum(g * x for g, x in zip(gate, z, strict=True)) - bias))
        found.append([opened * x for x in z])
    return torch.tensor(found, dtype=torch.float64).T.view_as(a)


@pytest.mark.parametrize("form", AFFINITIES)
def test_pairs_are_summarised_as_the_formulas_say(form):
    module = attention(form)
    a, b = torch.randn(2, 2, C, H, W, dtype=torch.float64)
    of_a, of_b = module.pair(a, b)
    for i in range(2):
        torch.testing.assert_close(of_a[i], by_loops(module, form, a[i], b[i]))
    # Row-wise: the weights of b's locations are those of S transposed.
    if form != "vanilla":  # W is symmetric
        for i in range(2):
            torch.testing.assert_close(of_b[i], by_loops(module, form, b[i], a[i]))
    else:
        with torch.no_grad():
            module.affinity.weight.copy_(module.affinity.weight.T.clone())
        torch.testing.assert_close(of_b[0], by_loops(module, form, b[0], a[0]))


@pytest.mark.parametrize("form", AFFINITIES)
def test_derivatives_of_co_attention(form):
    module = attention(form)
    names = [name for name, _ in module.named_parameters()]
    a, b = torch.randn(2, 1, C, H, W, dtype=torch.float64, requires_grad=True)

    def both(a, b, *parameters):
        state = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(
            _Pair(module), {f"inner.{n}": p for n, p in state.items()}, (a, b)
        )

    assert torch.autograd.gradcheck(both, (a, b, *module.parameters()))


class _Pair(torch.nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, a, b):
        return self.inner.pair(a, b)


@pytest.mark.parametrize("form", AFFINITIES)
def test_summaries_of_references_are_averaged(form):
    module = attention(form)
    target = torch.randn(C, H, W, dtype=torch.float64)
    references = torch.randn(4, C, H, W, dtype=torch.float64)
    wanted = torch.stack([by_loops(module, form, target, each) for each in references]).mean(0)
    torch.testing.assert_close(module(target, references), wanted)


def test_the_projection_of_the_symmetric_form_starts_orthogonal():
    torch.manual_seed(1)
    projection = AFFINITIES["symmetric"](6).projection
    torch.testing.assert_close(projection @ projection.T, torch.eye(6))


@cache
def network(form="symmetric"):
    """A random network, which tests do not change."""
    torch.manual_seed(0)
    return cosnet(co_attention=form, channels=8)


def test_a_pair_is_segmented_as_each_frame_with_the_other_as_reference():
    net = network()
    torch.manual_seed(1)
    images = torch.rand(2, 2, 3, 64, 80)
    with torch.no_grad():
        logits, coarse = net(images)
    assert coarse.shape == (2, 2, 4, 5)
    with torch.no_grad():
        for pair, found in zip(images, logits, strict=True):
            seen = [net.see(image[None]) for image in pair]
            for this, other, mask in zip(seen, seen[::-1], found, strict=True):
                torch.testing.assert_close(
                    net.segment(this, other.features), mask, rtol=1e-4, atol=1e-4
                )


@pytest.mark.parametrize("form", FORMS)
def test_without_references_a_frame_is_as_an_image(form):
    net = network(form)
    images = torch.rand(1, 1, 3, 64, 80)
    with torch.no_grad():
        seen = net.see(images[:, 0])
        torch.testing.assert_close(net.segment(seen, seen.features[:0]), net(images)[0][0, 0])
        other = net.segment(seen, torch.randn(2, *seen.features.shape[1:]))
    assert torch.allclose(other, net(images)[0][0, 0]) == (form == "none")


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (50, 100)])
def test_frames_of_any_size_are_segmented(size):
    net = network()
    with torch.no_grad():
        assert net(torch.rand(1, 2, 3, *size))[0].shape == (1, 2, *size)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [({"co_attention": "full"}, "'full' is unknown; there are vanilla, symmetric, channel, none")],
)
def test_bad_sizes_are_named(sizes, message):
    with pytest.raises(InputError, match=message):
        cosnet(**sizes)


def test_frames_are_selected():
    assert uniform(10, 5, 0, 0) == [1, 3, 5, 7, 9]
    assert uniform(100, 2, 7, 0) == [25, 75]
    assert local(10, 4, 5, 0) == [3, 4, 6, 7]
    assert local(10, 4, 0, 0) == [1, 2, 3, 4]
    assert local(10, 5, 9, 0) == [4, 5, 6, 7, 8]
    drawn = random(100, 5, 0, 3)
    assert len(set(drawn)) == 5
    assert drawn == random(100, 5, 70, 3) != random(100, 5, 0, 4)


@pytest.mark.parametrize("select", SELECTIONS.values())
@pytest.mark.parametrize("count", [1, 2, 5, 6, 7])
@pytest.mark.parametrize("references", [0, 1, 5, 6])
def test_selected_frames_are_there_each_once(select, count, references):
    for time in range(count):
        chosen = select(count, references, time, 0)
        assert len(chosen) == len(set(chosen)) <= references
        assert len(chosen) >= min(references, count - 1)
        assert all(0 <= index < count for index in chosen)


class Counted:
    """The frames of a clip, which count how often each is read."""

    def __init__(self, frames):
        self.frames, self.read = frames, []

    def __len__(self):
        return len(self.frames)

    def __getitem__(self, index):
        self.read.append(index)
        return self.frames[index]


@pytest.mark.parametrize("selection", SELECTIONS)
def test_references_are_read_once_and_no_more_are_kept(selection):
    frames = Counted(list(synthetic_clip(12, (64, 80), objects=1)[0]))
    segmenter = COSNetSegmenter(network(), replace(SMALL, selection=selection, references=3))
    segmenter.start(frames)
    for frame in frames.frames:
        segmenter.step(frame)
        assert len(segmenter._features) <= 4
    read = frames.read[1:]  # the first was looked at for its size
    # The first frame, which is drawn too, is seen before it helps others.
    assert len(read) == len(set(read)) == {"uniform": 3, "random": 2, "local": 11}[selection]
    assert len(segmenter.state_dict()["learned"]) == 1


@pytest.mark.parametrize("selection", SELECTIONS)
@pytest.mark.parametrize("length", [1, 2])
def test_short_clips_are_segmented(selection, length):
    frames = list(synthetic_clip(2, (64, 80), objects=1)[0][:length])
    segmenter = COSNetSegmenter(network(), replace(SMALL, selection=selection, references=5))
    segmenter.start(frames)
    for frame in frames:
        found = segmenter.step(frame)
        assert found.shape == (64, 80)
        assert found.dtype == torch.uint8
        assert found.max() <= 1


@pytest.mark.parametrize("value", [0, 128, 255])
def test_blank_clips_and_objects_that_leave_are_segmented(value):
    frames = list(synthetic_clip(2, (64, 80), objects=1)[0])
    blank = [torch.full_like(frames[0], value)] * 2
    network_of_nothing = cosnet(co_attention="symmetric", channels=8)
    with torch.no_grad():  # what finds nothing marks nothing
        network_of_nothing.head.head.weight.zero_()
        network_of_nothing.head.head.bias.fill_(-1.0)
    for net, clip in itertools.product((network(), network_of_nothing), (blank, frames + blank)):
        segmenter = COSNetSegmenter(net, SMALL)
        segmenter.start(clip)
        found = [segmenter.step(frame) for frame in clip]
        assert found[-1].equal(found[-2])  # the same frame, with the same references
        if net is network_of_nothing:
            assert not any(mask.any() for mask in found)


@pytest.mark.parametrize("selection", SELECTIONS)
def test_another_process_goes_on_to_the_same_masks(selection, tmp_path):
    frames = list(synthetic_clip(5, (64, 80), objects=1)[0])
    options = replace(SMALL, selection=selection)
    found = check_finds_on(lambda: COSNetSegmenter(network(), options), frames, tmp_path)
    assert len({mask.sum().item() for mask in found}) > 1


def test_the_threshold_decides():
    frames = list(synthetic_clip(3, (64, 80), objects=1)[0])

    def area(**more):
        segmenter = COSNetSegmenter(network(), replace(SMALL, **more))
        segmenter.start(frames)
        return segmenter.step(frames[0]).sum().item()

    net = network()
    with torch.no_grad():
        seen = net.see(frames[0].float()[None] / 255)
        others = [net.see(frames[i].float()[None] / 255).features for i in (0, 2)]
        probability = net.segment(seen, torch.cat(others)).sigmoid()
    for threshold in (0.3, 0.5, 0.7):
        assert area(threshold=threshold, refine=False) == (probability > threshold).sum()
    assert area(threshold=1 - 1e-9) == 0
    assert area(refine=True) != area(refine=False)


@pytest.mark.parametrize(
    ("name", "value"),
    [("references", -1), ("selection", "all"), ("short_side", 8), ("threshold", 1.0), ("seed", -1)],
)
def test_options_out_of_range_are_named(name, value):
    with pytest.raises(ValueError, match=name):
        COSNetOptions(**{name: value})


@pytest.mark.parametrize(
    ("size", "short_side", "seen"),
    [((480, 854), 480, (480, 854)), ((480, 854), 240, (240, 427)), ((64, 80), 480, (64, 80))],
)
def test_settings_say_how_many_pixels_are_looked_at(size, short_side, seen):
    segmenter = COSNetSegmenter(network(), COSNetOptions(short_side=short_side))
    with torch.no_grad():
        assert segmenter._look(torch.zeros(3, *size, dtype=torch.uint8)).images.shape[-2:] == seen


def test_half_precision_finds_about_the_same():
    frames = list(synthetic_clip(3, (64, 80), objects=1)[0])
    found = []
    for half in (False, True):
        segmenter = COSNetSegmenter(network(), replace(SMALL, half=half))
        segmenter.start(frames)
        found.append(segmenter.step(frames[1]))
    segmenter.network.autocast = None
    assert (found[0] != found[1]).float().mean() < 0.1
