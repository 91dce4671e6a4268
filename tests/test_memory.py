"""The sample memory's slots and weights."""

import pytest
import torch

from innerloop_vos.ridge.samples import SampleMemory


def filled(count, capacity=4, learning_rate=0.1, first_weight=0.25):
    memory = SampleMemory(capacity, learning_rate, first_weight)
    for value in range(count):
        memory.add(torch.full((2, 3), float(value)), torch.tensor(float(value)))
    return memory


def test_weights_decay_exponentially_and_sum_to_one():
    memory = filled(4, capacity=8, first_weight=0.0)
    expected = torch.tensor([0.9**3, 0.1 * 0.9**2, 0.1 * 0.9, 0.1])
    torch.testing.assert_close(memory.weights, expected)
    torch.testing.assert_close(memory.weights.sum(), torch.tensor(1.0))


def test_the_first_sample_keeps_its_share_and_the_others_their_proportions():
    memory = filled(30, capacity=32)
    assert memory.weights[0] == 0.25
    torch.testing.assert_close(memory.weights.sum(), torch.tensor(1.0))
    torch.testing.assert_close(memory.weights[10] / memory.weights[11], torch.tensor(0.9))


def test_a_full_memory_keeps_the_first_and_the_latest():
    memory = filled(9)
    frames, values = memory.samples()
    assert len(memory) == 4
    assert frames.shape == (4, 2, 3)
    assert values[0] == 0
    assert sorted(values.tolist()) == [0, 6, 7, 8]
    assert values[memory.weights[1:].argmax() + 1] == 8


def test_a_stored_sample_is_a_copy():
    sample = torch.zeros(2)
    memory = SampleMemory(2, 0.1, 0.25)
    memory.add(sample)
    sample += 1
    assert not memory.samples()[0].any()


@pytest.mark.parametrize(
    ("arguments", "name"),
    [((1, 0.1, 0.25), "capacity"), ((4, 1.0, 0.25), "learning_rate"), ((4, 0.1, 1.0), "first")],
)
def test_bad_arguments_are_named(arguments, name):
    with pytest.raises(ValueError, match=f"^{name}"):
        SampleMemory(*arguments)
