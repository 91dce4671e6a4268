"""One task adapted with other libraries, by their documented calls; each imported when called."""

import contextlib
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call

Loss = Callable[[Tensor, Tensor], Tensor]
Task = tuple[Tensor, ...]
"""Support inputs, support targets, query inputs and query targets."""


class InnerLoop(Protocol):
    """How to adapt to a task: `steps` steps of gradient descent at a rate."""

    @property
    def loss(self) -> Loss: ...
    @property
    def rate(self) -> float: ...
    @property
    def steps(self) -> int: ...


class TaskOutcome(NamedTuple):
    """The query loss of a task, differentiable in the start, and the adapted parameters."""

    loss: Tensor
    parameters: list[Tensor]


def functional_outcome(
    net: nn.Module, start: Mapping[str, Tensor], task: Task, inner: InnerLoop
) -> TaskOutcome:
    """By plain torch.func: gradient descent written out."""
    support, targets, query, answers = task

    def support_loss(parameters: Mapping[str, Tensor]) -> Tensor:
        return inner.loss(functional_call(net, dict(parameters), (support,)), targets)

    parameters = dict(start)
    for _ in range(inner.steps):
        gradients = torch.func.grad(support_loss)(parameters)
        parameters = {
            name: value - inner.rate * gradients[name] for name, value in parameters.items()
        }
    loss = inner.loss(functional_call(net, parameters, (query,)), answers)
    return TaskOutcome(loss, list(parameters.values()))


def higher_outcome(net: nn.Module, task: Task, inner: InnerLoop) -> TaskOutcome:
    """By higher: `innerloop_ctx` around `torch.optim.SGD`."""
    import higher

    support, targets, query, answers = task
    sgd = torch.optim.SGD(net.parameters(), lr=inner.rate)
    with higher.innerloop_ctx(net, sgd, copy_initial_weights=False) as (model, optimizer):
        for _ in range(inner.steps):
            optimizer.step(inner.loss(model(support), targets))
        return TaskOutcome(inner.loss(model(query), answers), list(model.parameters()))


def learn2learn_outcome(net: nn.Module, task: Task, inner: InnerLoop) -> TaskOutcome:
    """By learn2learn: a clone of `algorithms.MAML`."""
    with contextlib.redirect_stderr(io.StringIO()):  # its gym prints an advertisement
        import learn2learn

    support, targets, query, answers = task
    learner = learn2learn.algorithms.MAML(net, lr=inner.rate).clone()
    for _ in range(inner.steps):
        learner.adapt(inner.loss(learner(support), targets))
    return TaskOutcome(inner.loss(learner(query), answers), list(learner.parameters()))


def torchopt_outcome(net: nn.Module, task: Task, inner: InnerLoop) -> TaskOutcome:
    """By TorchOpt: `MetaSGD`, which replaces the net's parameters until they are recovered."""
    import torchopt

    support, targets, query, answers = task
    optimizer = torchopt.MetaSGD(net, lr=inner.rate)
    start = torchopt.extract_state_dict(net, by="reference")
    try:
        for _ in range(inner.steps):
            optimizer.step(inner.loss(net(support), targets))
        return TaskOutcome(inner.loss(net(query), answers), list(net.parameters()))
    finally:
        torchopt.recover_state_dict(net, start)


@dataclass(frozen=True)
class Peer:
    """A library that adapts modules: the package, and the function that uses it."""

    package: str
    outcome: Callable[[nn.Module, Task, InnerLoop], TaskOutcome]


PEERS: dict[str, Peer] = {
    "higher": Peer("higher", higher_outcome),
    "learn2learn": Peer("learn2learn", learn2learn_outcome),
    "TorchOpt": Peer("torchopt", torchopt_outcome),
}
