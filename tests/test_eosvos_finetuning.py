"""Fine-tuning of e-OSVOS: its rates, its gradients and what it costs."""

import weakref

import pytest
import torch
from eosvos_goldens import state_shapes
from shared import needs_shared
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode

import innerloop as il
from innerloop_vos.data import synthetic_image
from innerloop_vos.eosvos import eosvos_mobilenet_v2, eosvos_resnet50
from innerloop_vos.eosvos.finetuning import (
    Batch,
    fine_tune,
    initial_rates,
    learning,
    training_loss,
)

TINY = {
    "channels": 16,
    "image_size": (64, 96),
    "box_features": 16,
    "mask_features": 8,
    "mask_pooling": 7,
    # All of them: nothing is random then.
    "sampled_anchors": 10**6,
    "sampled_boxes": 10**6,
}


def tiny_network():
    torch.manual_seed(0)
    return eosvos_mobilenet_v2(**TINY)


def batch_of(seed):
    image, mask = synthetic_image((64, 96), objects=1, seed=seed)
    return Batch([image / 255], [mask == 1])


@needs_shared
def test_rates_have_the_released_names_and_shapes():
    rates = initial_rates(eosvos_resnet50(), torch.Generator().manual_seed(0))
    released = state_shapes("meta_optim")
    expected = {
        name.removeprefix("log_init_lr_"): shape
        for name, shape in released.items()
        if name.startswith("log_init_lr_")
    }
    assert {name: list(rate.shape) for name, rate in rates.named_parameters()} == expected
    assert sum(rate.numel() for rate in rates.parameters()) == 90_998
    every = torch.cat([rate.flatten() for rate in rates.parameters()])
    assert every.min() >= 0.5e-3
    assert every.max() <= 1.5e-3
    assert every.mean().item() == pytest.approx(1e-3, rel=0.01)


def test_meta_gradient_is_that_of_the_graph():
    network = tiny_network().double()
    rates = initial_rates(network, torch.Generator().manual_seed(0))
    init = {name: p.detach().clone().requires_grad_() for name, p in network.named_parameters()}
    train, test = (
        Batch([image.double() for image in batch.images], batch.masks)
        for batch in (batch_of(0), batch_of(1))
    )
    tuned = fine_tune(network, rates(), lambda: train, 3, init=init)
    training_loss(tuned, test).backward()

    params = init
    for _ in range(3):
        loss = training_loss(lambda *a, p=params: functional_call(network, p, a), train)
        gradients = torch.autograd.grad(loss, list(params.values()))
        params = {
            name: p - rate * gradient
            for (name, p), rate, gradient in zip(
                params.items(), rates().values(), gradients, strict=True
            )
        }
    outer = training_loss(lambda *a: functional_call(network, params, a), test)
    leaves = {**init, **{f"rate of {name}": rate for name, rate in rates.named_parameters()}}
    gradients = torch.autograd.grad(outer, list(leaves.values()))
    for (name, leaf), expected in zip(leaves.items(), gradients, strict=True):
        assert (leaf.grad - expected).abs().max() <= 1e-5 * expected.abs().max(), name


class LivePeak(TorchDispatchMode):
    """Tracks the bytes of all tensors alive that were made inside it."""

    def __init__(self):
        super().__init__()
        self.alive, self.peak, self.seen = 0, 0, weakref.WeakSet()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in torch.utils._pytree.tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage() not in self.seen:
                self.track(tensor.untyped_storage())
        return result

    def track(self, storage):
        self.seen.add(storage)
        self.alive += storage.nbytes()
        self.peak = max(self.peak, self.alive)
        weakref.finalize(storage, self.forget, storage.nbytes())

    def forget(self, size):
        self.alive -= size


@pytest.mark.slow
def test_memory_of_a_meta_step_does_not_grow_with_the_steps():
    network = eosvos_mobilenet_v2(**TINY | {"sampled_anchors": 64, "sampled_boxes": 16})
    rates = initial_rates(network)
    peaks = []
    for steps in (5, 50):
        torch.manual_seed(0)
        with LivePeak() as memory:
            tuned = fine_tune(network, rates(), lambda: batch_of(0), steps)
            training_loss(tuned, batch_of(1)).backward()
        peaks.append(memory.peak)
        network.zero_grad(), rates.zero_grad()
    assert peaks[0] > sum(p.numel() for p in network.parameters()) * 4
    assert peaks[1] <= 1.1 * peaks[0]


def test_what_has_no_rate_does_not_learn_and_costs_no_gradient():
    network = tiny_network()
    rates = initial_rates(network)
    with torch.no_grad():
        for name, rate in rates.named_parameters():
            if "mask_predictor" not in name:
                rate.zero_()
    chosen = learning(network, rates)
    network.requires_grad_(False)
    assert all("mask_predictor" in name for name in chosen)
    reached = []
    network.roi_heads.mask_head.register_full_backward_hook(lambda *_: reached.append(1))
    tuned = fine_tune(network, chosen, lambda: batch_of(0), 2, adjoint=il.Detach())
    assert tuned.values.keys() == chosen.keys()
    assert not reached
    losses = tuned.solution.stats.losses
    assert losses[1] < losses[0]


def test_the_network_itself_stays_as_it_is():
    network = tiny_network()
    before = {name: p.clone() for name, p in network.named_parameters()}
    tuned = fine_tune(network, initial_rates(network)(), lambda: batch_of(0), 1)
    assert all(p.equal(before[name]) for name, p in network.named_parameters())
    assert not tuned.values["roi_heads.mask_predictor.mask_fcn_logits.bias"].equal(
        before["roi_heads.mask_predictor.mask_fcn_logits.bias"]
    )


def test_one_rate_for_all_is_given_to_every_parameter():
    network = tiny_network()
    chosen = learning(network, il.LearningRates(network, per="model", init=0.02))
    assert list(chosen) == [name for name, _ in network.named_parameters()]
    assert all(rate == 0.02 for rate in chosen.values())


def test_rates_that_cannot_be_used_are_refused():
    network = tiny_network()
    with pytest.raises(ValueError, match="rates: all are 0"):
        learning(network, il.LearningRates(network, init=0.0))
    with pytest.raises(ValueError, match="rates: per_step=2"):
        learning(network, il.LearningRates(network, per_step=2))
