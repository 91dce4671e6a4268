"""Meta-training reaches what higher and learn2learn reach, by the benchmark's own functions."""

import copy
from dataclasses import replace
from importlib import import_module

import pytest
import torch
from torch.nn.utils import parameters_to_vector

for peer in ("higher", "learn2learn", "sklearn"):
    pytest.importorskip(peer, reason=f"compares with other libraries; {peer} is not installed")

maml_peers = import_module("benchmarks.core.maml_peers")

ITERATIONS = 4
TASKS = 3


@pytest.mark.parametrize("experiment", ["sinusoid_experiment", "digit_experiment"])
def test_all_libraries_learn_the_same_start(experiment):
    experiment = replace(getattr(maml_peers, experiment)(), batch=TASKS)
    torch.manual_seed(0)
    start = experiment.net().double()
    batches = [
        tuple(part.double() if part.is_floating_point() else part for part in drawn)
        for drawn in (experiment.train(TASKS) for _ in range(ITERATIONS))
    ]
    learned = {}
    for library, train in maml_peers.TRAINERS.items():
        net = copy.deepcopy(start)
        train(net, batches, experiment)
        learned[library] = parameters_to_vector(net.parameters()).detach()
    own = learned.pop("innerloop, loop")
    assert (own - parameters_to_vector(start.parameters())).abs().max() > 1e-3
    for values in learned.values():
        torch.testing.assert_close(values, own, rtol=0, atol=1e-9)
