"""RVOS: its cell and its decoder against their formulas, and its recurrences."""

import pytest
import torch
from rvos_tiny import WIDTHS, tiny
from torch.nn import functional as F

from innerloop_vos.rvos.model.conv_lstm import ConvLSTM, State

SIZE = (64, 96)


def draw(*shape):
    return torch.randn(*shape, dtype=torch.float64)


@pytest.mark.parametrize("remembers", [False, True])
def test_the_cell_is_that_of_the_formulas(remembers):
    torch.manual_seed(0)
    cell = ConvLSTM(3, 5, 4).double()
    shared, own, memory = draw(2, 3, 6, 7), draw(2, 5, 6, 7), draw(2, 4, 6, 7)
    found = cell(cell.shared(shared), own, memory if remembers else None)
    # One convolution over all channels side by side, gate by gate.
    weight = torch.cat([cell.shared.weight, cell.own.weight], dim=1)
    both = torch.cat([shared, own], dim=1)
    enter, keep, leave, new = (
        F.conv2d(both, weight[4 * k : 4 * k + 4], cell.shared.bias[4 * k : 4 * k + 4], padding=1)
        for k in range(4)
    )
    sigmoid = lambda x: 1 / (1 + torch.exp(-x))  # noqa: E731
    expected = sigmoid(enter) * torch.tanh(new)
    if remembers:
        expected = expected + sigmoid(keep) * memory
    torch.testing.assert_close(found.cell, expected)
    torch.testing.assert_close(found.hidden, sigmoid(leave) * torch.tanh(expected))


def test_the_derivative_of_the_cell_is_that_of_finite_differences():
    torch.manual_seed(0)
    cell = ConvLSTM(2, 3, 2).double()
    given = [draw(1, 8, 3, 4), draw(1, 3, 3, 4), draw(1, 2, 3, 4), cell.own.weight.detach()]

    def step(shared, own, memory, weight):
        parts = {"own.weight": weight}
        return tuple(torch.func.functional_call(cell, parts, (shared, own, memory)))

    assert torch.autograd.gradcheck(step, [x.requires_grad_() for x in given])


def test_the_cell_remembers_in_full_precision():
    cell = ConvLSTM(2, 3, 2).bfloat16()
    shared, own = torch.randn(1, 8, 3, 4).bfloat16(), torch.randn(1, 3, 3, 4).bfloat16()
    state = cell(shared, own, torch.full((1, 2, 3, 4), 100.001))
    assert state.cell.dtype == state.hidden.dtype == torch.float32


def seen(network, seed=1):
    with torch.no_grad():
        return network.see(torch.rand(1, 3, *SIZE, generator=torch.Generator().manual_seed(seed)))


def test_the_decoder_is_that_of_the_formula():
    network = tiny().double()
    decoder = network.decoder
    levels = {
        name: draw(1, level.channels, -(-64 // level.stride), -(-96 // level.stride))
        for name, level in network.backbone.levels.items()
    }
    mask = torch.rand(1, 1, *SIZE, dtype=torch.float64)
    sizes = [level.shape[-2:] for level in reversed(levels.values())]
    before, neighbour = (
        [State(draw(1, c, *s), draw(1, c, *s)) for c, s in zip(WIDTHS, sizes, strict=True)]
        for _ in range(2)
    )
    with torch.no_grad():
        logits, score, states = decoder(decoder.see(levels), mask, before, neighbour)
        below = None
        for k, (name, size) in enumerate(zip(reversed(levels), sizes, strict=True)):
            level = levels[name]
            level = level * (level.shape[1] / level.square().sum(1, keepdim=True)).sqrt()
            parts = [F.relu(decoder.skips[k](level))]
            if below is not None:  # B2
                parts.append(F.interpolate(below.hidden, size, mode="bilinear"))
            small = F.avg_pool2d(mask, network.backbone.levels[name].stride)
            parts.insert(1, 8 * (2 * small - 1))
            parts += [neighbour[k].hidden, before[k].hidden]
            cell = decoder.cells[k]
            weight = torch.cat([cell.shared.weight, cell.own.weight], dim=1)
            gates = F.conv2d(torch.cat(parts, dim=1), weight, cell.shared.bias, padding=1)
            enter, keep, leave, new = gates.chunk(4, dim=1)
            memory = keep.sigmoid() * before[k].cell + enter.sigmoid() * new.tanh()
            below = State(leave.sigmoid() * memory.tanh(), memory)
            torch.testing.assert_close(states[k].cell, below.cell)
            torch.testing.assert_close(states[k].hidden, below.hidden)
        torch.testing.assert_close(logits, 10 * decoder.mask(below.hidden))
        pooled = torch.cat([state.hidden.flatten(2).max(2).values for state in states], dim=1)
        torch.testing.assert_close(score, decoder.stop(pooled)[:, 0])


@torch.no_grad()
def after(network, told=""):
    """Logits of an object after another one and another frame, one of which was changed."""
    frame = seen(network, 3)
    other, same = seen(network, 4), seen(network, 5)
    before = network.segment(other if told == "before" else same).states
    neighbour = network.segment(other if told == "neighbour" else same).states
    return network.segment(frame, None, before, neighbour).logits


@pytest.mark.parametrize(
    ("recurrence", "over_frames", "over_objects"),
    [("S", False, True), ("T", True, False), ("ST", True, True)],
)
def test_recurrences_are_over_what_they_say(recurrence, over_frames, over_objects):
    network = tiny(recurrence)
    as_it_was = after(network)
    assert as_it_was.shape == (1, *SIZE)
    assert torch.equal(as_it_was, after(network, "before")) != over_frames
    assert torch.equal(as_it_was, after(network, "neighbour")) != over_objects


@torch.no_grad()
def test_a_first_frame_is_the_recurrence_over_objects_alone():
    network = tiny("ST")
    frame = seen(network)
    first = network.segment(frame)
    second = network.segment(frame, neighbour=first.states)
    nothing = [State(torch.zeros_like(h), c) for h, c in first.states]
    # The memory comes from the object before, the hidden state of the frame before is zero.
    told = network.segment(frame, before=nothing, neighbour=first.states)
    assert torch.equal(second.logits, told.logits)
    assert not torch.equal(second.logits, first.logits)


@torch.no_grad()
def test_what_an_object_was_matters_by_its_mask():
    network = tiny()
    frame = seen(network)
    left, right = torch.zeros(2, 1, *SIZE)
    left[..., :48], right[..., 48:] = 1, 1
    assert not torch.equal(
        network.segment(frame, left).logits, network.segment(frame, right).logits
    )
    unknown = network.segment(frame).logits
    # Half a chance everywhere says nothing, nor does the mask of an object out of sight.
    for chance in (0.5, 0.0):
        mask = torch.full((1, *SIZE), chance)
        assert torch.equal(unknown, network.segment(frame, mask).logits)
    mask[:, :2] = 1
    assert not torch.equal(unknown, network.segment(frame, mask).logits)


@torch.no_grad()
def test_frames_of_a_batch_do_not_mix():
    network = tiny()
    images, masks = torch.rand(3, 3, *SIZE), torch.rand(3, *SIZE)
    together = network.segment(network.see(images), masks)
    parts = network.see(images).split(1)
    for index, part in enumerate(parts):
        alone = network.segment(part, masks[index : index + 1])
        torch.testing.assert_close(alone.logits[0], together.logits[index], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(alone.score[0], together.score[index], rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("size", [(33, 47), (64, 96), (1, 1)])
def test_any_size_of_frame_is_segmented(size):
    network = tiny()
    found = network.segment(network.see(torch.rand(1, 3, *size)), torch.rand(1, *size))
    assert found.logits.shape == (1, *size)
    assert found.logits.isfinite().all()


@torch.no_grad()
def test_half_precision_is_close():
    network = tiny(restless=False)
    exact = network.segment(seen(network)).logits
    network.autocast = torch.bfloat16
    found = network.segment(seen(network))
    assert found.logits.dtype == found.score.dtype == torch.float32
    torch.testing.assert_close(found.logits, exact, rtol=0, atol=0.1)
