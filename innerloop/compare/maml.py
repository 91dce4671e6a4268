"""Suites of model-agnostic meta-learning: adjoints, ways to batch tasks, and peers as rows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from innerloop import trees
from innerloop.adjoints import Adjoint, FirstOrder, Unroll
from innerloop.compare import registry
from innerloop.compare.peers import (
    PEERS,
    Loss,
    Peer,
    Task,
    TaskOutcome,
    functional_outcome,
)
from innerloop.compare.suite import Clock, Outcome, Row, Run, Suite, differentiate
from innerloop.modules.adapted import Adapted
from innerloop.solvers import GradientDescent
from innerloop.tasks import task_gradients
from innerloop.trees import Tree

BASELINE = "innerloop Unroll()"


@dataclass(frozen=True)
class Maml:
    """A net, and a batch of tasks that it should adapt to.

    Attributes:
        net: makes the net, the same at every call.
        tasks: support inputs, support targets, query inputs and query targets, stacked over tasks.
        loss: scalar loss of outputs and targets.
        rate: learning rate of the inner gradient descent.
        steps: inner steps.
    """

    net: Callable[[], nn.Module]
    tasks: tuple[Tensor, ...]
    loss: Loss
    rate: float
    steps: int

    def data(self, dtype: torch.dtype) -> tuple[nn.Module, tuple[Tensor, ...]]:
        """The net and the tasks in a dtype."""
        tasks = tuple(t.to(dtype) if t.is_floating_point() else t for t in self.tasks)
        return self.net().to(dtype), tasks


def maml_suite(description: str, maml: Maml) -> Suite:
    """A suite with a row for every adjoint, way to batch tasks and installed or missing peer.

    Args:
        description: the tasks and their number, the net and its size, one line.
        maml: the meta-learning problem.
    """
    adjoints: Mapping[str, Adjoint] = {
        "Unroll()": Unroll(),
        "Unroll(checkpoint)": Unroll(checkpoint=max(1, round(maml.steps**0.5))),
        "FirstOrder()": FirstOrder(),
        **registry.ADJOINTS,
    }
    rows = [
        Row(
            f"innerloop {name}",
            "adjoint",
            partial(_innerloop, maml, adjoint),
            exact=isinstance(adjoint, Unroll),
        )
        for name, adjoint in adjoints.items()
    ]
    rows += [
        Row("innerloop vmap", "batching", partial(_innerloop_vmap, maml), exact=True),
        Row("torch.func loop", "peer", partial(_functional, maml, _loop), exact=True),
        Row("torch.func vmap(grad)", "peer", partial(_functional, maml, _vmap_grad), exact=True),
        # Silently wrong through some normalisation layers: included to show that it is caught.
        Row("torch.func grad(vmap)", "peer", partial(_functional, maml, _grad_vmap), exact=True),
    ]
    rows += [
        Row(name, "peer", partial(_peer, maml, peer), exact=True, needs=peer.package)
        for name, peer in PEERS.items()
    ]
    return Suite(
        description,
        lambda: _functional(maml, _loop, torch.float64)(Clock()),
        "the gradient through all steps, task by task",
        BASELINE,
        rows,
        maml.steps,
    )


def _innerloop(maml: Maml, adjoint: Adjoint, dtype: torch.dtype) -> Run:
    net, tasks = maml.data(dtype)
    model = Adapted(net)

    def run(clock: Clock) -> Outcome:
        reached: list[Tensor] = []

        def task_loss(init: dict[str, Tensor], task: Task) -> Tensor:
            with clock:
                loss, parameters = _adapted(model, init, task, maml, adjoint)
            reached.extend(parameters)
            return loss

        losses, gradients = task_gradients(task_loss, _start(net), tasks)
        return Outcome(losses.mean(), trees.leaves(gradients), trees.detach(reached))

    return run


def _innerloop_vmap(maml: Maml, dtype: torch.dtype) -> Run:
    net, tasks = maml.data(dtype)
    model = Adapted(net)

    def run(clock: Clock) -> Outcome:
        def task_loss(init: dict[str, Tensor], task: Task) -> Tensor:
            with clock:
                return _adapted(model, init, task, maml, Unroll()).loss

        losses, gradients = task_gradients(task_loss, _start(net), tasks, mode="vmap")
        return Outcome(losses.mean(), trees.leaves(gradients))

    return run


def _adapted(
    model: Adapted, init: dict[str, Tensor], task: Task, maml: Maml, adjoint: Adjoint
) -> TaskOutcome:
    support, targets, query, answers = task
    adapted = model.adapt(
        lambda model: maml.loss(model(support), targets),
        GradientDescent(maml.rate),
        init=init,
        steps=maml.steps,
        adjoint=adjoint,
    )
    return TaskOutcome(maml.loss(adapted(query), answers), list(adapted.values.values()))


class TaskFunction(Protocol):
    """The outcome of a task from an initialisation."""

    def __call__(self, start: Tree, task: Task) -> TaskOutcome: ...


Batching = Callable[[TaskFunction, dict[str, Tensor], tuple[Tensor, ...], Clock], Outcome]


def _functional(maml: Maml, batching: Batching, dtype: torch.dtype) -> Run:
    net, tasks = maml.data(dtype)

    def task_function(start: Tree, task: Task) -> TaskOutcome:
        return functional_outcome(net, start, task, maml)

    return lambda clock: batching(task_function, _start(net), tasks, clock)


def _loop(
    function: TaskFunction, start: dict[str, Tensor], tasks: tuple[Tensor, ...], clock: Clock
) -> Outcome:
    return _average(
        [differentiate(partial(function, task=task), start, clock) for task in _each(tasks)]
    )


def _vmap_grad(
    function: TaskFunction, start: dict[str, Tensor], tasks: tuple[Tensor, ...], clock: Clock
) -> Outcome:
    def task_loss(start: Tree, task: Task) -> Tensor:
        with clock:
            return function(start, task).loss

    each = torch.func.vmap(torch.func.grad_and_value(task_loss), in_dims=(None, 0))
    gradients, losses = each(start, tasks)
    return Outcome(losses.mean(), [leaf.mean(0) for leaf in gradients.values()])


def _grad_vmap(
    function: TaskFunction, start: dict[str, Tensor], tasks: tuple[Tensor, ...], clock: Clock
) -> Outcome:
    each = torch.func.vmap(lambda start, task: function(start, task).loss, in_dims=(None, 0))
    loss, gradient, _ = differentiate(lambda s: (each(s, tasks).mean(), None), start, clock)
    return Outcome(loss, gradient)


def _peer(maml: Maml, peer: Peer, dtype: torch.dtype) -> Run:
    net, tasks = maml.data(dtype)

    def run(clock: Clock) -> Outcome:
        outcomes = []
        for task in _each(tasks):
            with clock:
                loss, parameters = peer.outcome(net, task, maml)
            gradient = list(
                torch.autograd.grad(loss, list(net.parameters()), materialize_grads=True)
            )
            outcomes.append((loss.detach(), gradient, parameters))
        return _average(outcomes)

    return run


def _average(outcomes: list[tuple[Tensor, list[Tensor], Any]]) -> Outcome:
    """Mean loss and gradient over tasks; the solutions side by side."""
    losses, gradients, solutions = zip(*outcomes, strict=True)
    mean = [torch.stack(leaves).mean(0) for leaves in zip(*gradients, strict=True)]
    reached = [leaf.detach() for solution in solutions for leaf in solution]
    return Outcome(torch.stack(losses).mean(), mean, reached)


def _each(tasks: tuple[Tensor, ...]) -> list[Task]:
    return list(zip(*tasks, strict=True))


def _start(net: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in net.named_parameters()}
