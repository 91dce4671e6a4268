"""Gradients of outer losses over batches of tasks."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.func import functional_call

from innerloop import trees
from innerloop._autodiff import ordinary, outside_inference_mode
from innerloop._threads import thread_map
from innerloop.adjoints.base import check_count
from innerloop.problems.checks import check_parameter, named
from innerloop.solvers.base import check_instance
from innerloop.trees import Tree

TaskLoss = Callable[[Any, Any], Tensor]
Mode: TypeAlias = Literal["loop", "threads", "vmap", "compile"]


class TaskGradients(NamedTuple):
    """The outer losses of a batch of tasks and the gradient of their mean."""

    losses: Tensor
    """One per task, without gradient."""
    gradients: Tree
    """Structured like the meta-parameters."""


def task_gradients(
    task_loss: TaskLoss,
    meta_parameters: Tree,
    tasks: Any,
    *,
    mode: Mode = "loop",
    chunk_size: int | None = None,
    seed: int | None = None,
    randomness: Literal["different", "same"] = "different",
) -> TaskGradients:
    """The gradient of the mean outer loss over a batch of tasks.

    Every mode differentiates the tasks one by one and averages: the gradient of a loss that was
    averaged under vmap first is wrong through some normalisation layers.

    Args:
        task_loss: maps the meta-parameters and a task to a scalar outer loss; it adapts inside. It
            is given the structure of `meta_parameters`: tensors that need gradients in place of the
            tensors, and the modules themselves, as in `net, rates = meta`. Under "vmap" and
            "compile" the modules have the differentiated tensors for parameters during the call, so
            take their parameters inside it, as `adapt(net, ...)` does.
        meta_parameters: a tree of tensors and modules. Of a module, the parameters that require a
            gradient are meta-parameters.
        tasks: a list of tasks, or all tasks stacked: a tensor, or a dict or tuple of tensors, whose
            first axis counts tasks.
        mode: "loop" (the default) takes one task after the other, at the memory of one; "threads"
            takes `torch.get_num_threads()` tasks in parallel, each on one core, which is faster for
            small nets on a CPU: `task_loss` must not change anything that tasks share (`Adapted`
            modules do not; a module under `torch.func.functional_call` does); "vmap" computes many
            tiny tasks at once; "compile" loops over one task that is compiled whole, which takes
            minutes for deep nets and many steps: `Adapted.adapt(..., compile=True)` compiles only a
            step.
        chunk_size: tasks computed at once under "vmap". Default: all.
        seed: makes the random numbers reproducible: task i draws from `seed + i`, the same numbers
            under "loop" and "compile"; under "vmap" a whole chunk draws at once, so they differ;
            not allowed under "threads", which share one generator. Default: the global generator as
            it is.
        randomness: "same" lets all tasks draw the same numbers, in every mode. Default "different".

    Returns:
        The losses and the gradient.

    Raises:
        TypeError: `task_loss` does not return a tensor, or a meta-parameter is not one.
        ValueError: the tasks do not fit together, an option is unknown, or the outer loss depends
            on no meta-parameter.
        FloatingPointError: an outer loss or the gradient is NaN or infinite.
    """
    if randomness not in ("different", "same"):
        raise ValueError(f"randomness: {randomness!r}, should be 'different' or 'same'")
    if chunk_size is not None:
        check_count("chunk_size", chunk_size)
    if mode == "threads" and (seed is not None or randomness == "same"):
        name, value = ("seed", seed) if seed is not None else ("randomness", randomness)
        raise ValueError(f"{name}: {value!r}, should be left out: threads share one generator")
    count = _count(tasks)
    given, meta_parameters = meta_parameters, trees.detach(meta_tensors(meta_parameters))
    if mode == "vmap":
        tasks = _stacked(tasks)
        size = chunk_size or count
        groups = [
            (trees.tree_map(lambda leaf, at=at: leaf[at : at + size], tasks), at)
            for at in range(0, count, size)
        ]
        differentiate = _vmapped(_of_tensors(task_loss, given), randomness)
    elif mode in ("loop", "threads", "compile"):
        groups = [(_task(tasks, i), i) for i in range(count)]
        if mode == "compile":
            differentiate = _compiled(_of_tensors(task_loss, given))
        else:
            differentiate = _eager(task_loss, given)
    else:
        raise ValueError(f"mode: {mode!r}, should be 'loop', 'threads', 'vmap' or 'compile'")

    def of_group(group: tuple[Any, int]) -> tuple[Tree, Tensor]:
        with _seeded(seed, 0 if randomness == "same" else group[1]):
            return differentiate(meta_parameters, group[0])

    losses, total = [], trees.zeros_like(meta_parameters)
    with outside_inference_mode():
        for gradients, loss in (thread_map if mode == "threads" else map)(of_group, groups):
            total = trees.add(total, trees.detach(gradients))
            del gradients  # makes room for the next ones
            losses.append(loss.detach().reshape(-1))
        if mode in ("vmap", "compile") and not any(bool(g.any()) for g in trees.leaves(total)):
            # Under transforms it is unknown whether the loss depends on anything; in eager code it
            # is known.
            _eager(task_loss, given)(meta_parameters, _task(tasks, 0))
    found = TaskGradients(torch.cat(losses), trees.tree_map(lambda leaf: leaf / count, total))
    _check_finite(found)
    return found


def _check_finite(found: TaskGradients) -> None:
    bad = (~found.losses.isfinite()).nonzero().flatten().tolist()
    if bad:
        raise FloatingPointError(
            f"task_loss: the outer loss of {len(bad)} of {len(found.losses)} tasks is not finite, "
            f"first of task {bad[0]}, where it is {found.losses[bad[0]].item()}"
        )
    leaves = trees.named_leaves(found.gradients)
    names = [name for name, leaf in leaves if not bool(leaf.isfinite().all())]
    if names:
        raise FloatingPointError(
            f"task_loss: its gradient is not finite for {len(names)} meta-parameters, such as "
            f"{names[:4]}; look for what has no derivative, such as the root or the norm of zero, "
            "or leaves the range of the dtype; torch.autograd.set_detect_anomaly(True) says where"
        )


def meta_train(
    task_loss: TaskLoss,
    meta_parameters: Tree,
    batches: Iterable[Any],
    optimizer: torch.optim.Optimizer,
    *,
    mode: Mode = "loop",
    chunk_size: int | None = None,
    seed: int | None = None,
    after_step: Callable[[], None] | None = None,
) -> list[float]:
    """Train meta-parameters: one outer step for every batch of tasks.

    Args:
        task_loss, mode, chunk_size: see `task_gradients`.
        meta_parameters: a tree of leaf tensors and modules, such as `[net, rates]`, whose
            parameters `optimizer` changes in place; it must hold them all, and no others.
        batches: yields batches of tasks.
        optimizer: the outer optimizer of the meta-parameters.
        seed: makes the random numbers in `task_loss` reproducible. Default: the global generator.
        after_step: called after every outer step, for example `rates.clamp_`. Default: nothing.

    Returns:
        The mean outer loss of every batch.

    Raises:
        TypeError, ValueError: see `task_gradients`, or `optimizer` and `meta_parameters` do not
            hold the same tensors.
        FloatingPointError: see `task_gradients`; the meta-parameters are as before that batch.
    """
    tensors = meta_tensors(meta_parameters)
    _check_optimizer(optimizer, tensors)
    history, taken = [], 0
    for tasks in batches:
        optimizer.zero_grad()  # the last gradient's memory is free for this one
        losses, gradients = task_gradients(
            task_loss,
            meta_parameters,
            tasks,
            mode=mode,
            chunk_size=chunk_size,
            seed=None if seed is None else seed + taken,
        )
        taken += len(losses)
        pairs = zip(trees.leaves(tensors), trees.leaves(gradients), strict=True)
        for parameter, gradient in pairs:
            parameter.grad = gradient
        optimizer.step()
        if after_step is not None:
            after_step()
        history.append(losses.mean().item())
    return history


def meta_tensors(meta_parameters: Any) -> Tree:
    """The meta-parameters, with the dict of its trained parameters in place of every module.

    Raises:
        TypeError, ValueError: they hold something else, or are empty.
    """

    def tensors(node: Any) -> Tree:
        return _trained(node) if isinstance(node, nn.Module) else node

    found = trees.tree_map(tensors, meta_parameters)
    for name, leaf in trees.named_leaves(found):
        check_parameter(f"meta_parameters[{name!r}]" if name else "meta_parameters", leaf)
    if not trees.leaves(found):
        raise ValueError("meta_parameters: hold no tensor to train, should hold at least one")
    return found


def _trained(module: nn.Module) -> dict[str, Tensor]:
    named = module.named_parameters()
    return {name: parameter for name, parameter in named if parameter.requires_grad}


def _check_optimizer(optimizer: torch.optim.Optimizer, tensors: Tree) -> None:
    """Raise unless the optimizer holds exactly the trained tensors."""
    check_instance("optimizer", optimizer, torch.optim.Optimizer, "torch.optim.Adam(parameters)")
    held = [tensor for group in optimizer.param_groups for tensor in group["params"]]
    named_tensors = trees.named_leaves(tensors)
    trained, known = {id(leaf) for _, leaf in named_tensors}, {id(tensor) for tensor in held}
    others = [tuple(t.shape) for t in held if t.requires_grad and id(t) not in trained]
    if others:
        raise ValueError(
            f"optimizer: holds {len(others)} tensors that are not among meta_parameters, of shapes "
            f"{others[:4]}, and would never be trained; hand their modules over as well, as in "
            "meta_parameters=[net, rates]"
        )
    missing = [
        name
        for name, leaf in named_tensors
        if id(leaf) not in known and (leaf.requires_grad or not isinstance(leaf, nn.Parameter))
    ]
    if missing:
        raise ValueError(
            f"meta_parameters: the optimizer does not hold {missing[:4]}, "
            f"{len(missing)} tensors in all, which would never change; it should"
        )


def _count(tasks: Any) -> int:
    if isinstance(tasks, list):
        count = len(tasks)
    else:
        counts = {leaf.shape[0] if leaf.ndim else 0 for leaf in trees.leaves(tasks)}
        if len(counts) != 1:
            raise ValueError(
                f"tasks: first axes of lengths {sorted(counts)}, should be one length, the number "
                "of tasks; or a list of tasks"
            )
        (count,) = counts
    if count == 0:
        raise ValueError("tasks: none, should be at least one")
    return count


def _task(tasks: Any, index: int) -> Any:
    if isinstance(tasks, list):
        return tasks[index]
    return trees.tree_map(lambda leaf: leaf[index], tasks)


def _stacked(tasks: Any) -> Any:
    if not isinstance(tasks, list):
        return tasks
    try:
        return trees.tree_map(lambda *leaves: torch.stack(leaves), *tasks)
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"tasks: mode 'vmap' needs tasks of one shape: {error}") from error


def _vmapped(task_loss: TaskLoss, randomness: str) -> Callable[[Tree, Any], tuple[Tree, Tensor]]:
    each = torch.func.vmap(torch.func.grad_and_value(task_loss), randomness=randomness)

    def differentiate(meta_parameters: Tree, group: Any) -> tuple[Tree, Tensor]:
        # Every task has its (expanded) copy: torch's recurrent layers write in place, which works
        # under vmap only if their parameters are batched.
        count = trees.leaves(group)[0].shape[0]
        copies = trees.tree_map(lambda leaf: leaf.expand(count, *leaf.shape), meta_parameters)
        gradients, losses = each(copies, group)
        return trees.tree_map(lambda leaf: leaf.sum(0), gradients), losses

    return differentiate


class _Modules(nn.Module):
    """Meta-parameters with modules, so that `functional_call` can replace their tensors."""

    def __init__(self, task_loss: TaskLoss, nodes: list[Any], spec: Any) -> None:
        super().__init__()
        self.task_loss = task_loss
        self.nodes = nn.ModuleDict(
            {str(i): node for i, node in enumerate(nodes) if isinstance(node, nn.Module)}
        )
        self.spec = spec

    def forward(self, parts: list[Any], task: Any) -> Tensor:
        modules = dict(self.nodes.items())
        nodes = [modules.get(str(i), part) for i, part in enumerate(parts)]
        return self.task_loss(trees.unflatten(nodes, self.spec), task)


def _of_tensors(task_loss: TaskLoss, meta_parameters: Any) -> TaskLoss:
    """The loss as a function of tensors only, which are put into modules during the call."""
    nodes, spec = trees.flatten(meta_parameters)
    if not any(isinstance(node, nn.Module) for node in nodes):
        return task_loss
    bound = _Modules(task_loss, nodes, spec)

    def of_tensors(tensors: Tree, task: Any) -> Tensor:
        parts = spec.flatten_up_to(tensors)
        inside = {
            f"nodes.{i}.{name}": tensor
            for i, part in enumerate(parts)
            if str(i) in bound.nodes
            for name, tensor in part.items()
        }
        loss: Tensor = functional_call(bound, inside, (parts, task))
        return loss

    return of_tensors


def _eager(task_loss: TaskLoss, meta_parameters: Any) -> Callable[[Tree, Any], tuple[Tree, Tensor]]:
    nodes, spec = trees.flatten(meta_parameters)

    def differentiate(tensors: Tree, task: Any) -> tuple[Tree, Tensor]:
        parts = spec.flatten_up_to(tensors)
        with torch.enable_grad():
            fresh = [
                node if isinstance(node, nn.Module) else ordinary(part).detach().requires_grad_()
                for node, part in zip(nodes, parts, strict=True)
            ]
            # Modules are kept, as threads share them.
            given = [_trained(x) if isinstance(x, nn.Module) else x for x in fresh]
            leaves, structure = trees.flatten(trees.unflatten(given, spec))
            loss = task_loss(trees.unflatten(fresh, spec), task)
            _check_loss(loss)
            gradients = (
                torch.autograd.grad(loss, leaves, allow_unused=True) if loss.requires_grad else []
            )
        if all(part is None for part in gradients):
            raise ValueError(
                "task_loss: its loss depends on no meta-parameter, should be computed from those "
                "that it is given, with an adjoint that lets gradients through (Detach() does not)"
            )
        filled = [
            torch.zeros_like(leaf) if part is None else part
            for leaf, part in zip(leaves, gradients, strict=True)
        ]
        return trees.unflatten(filled, structure), loss

    return differentiate


def _check_loss(loss: object) -> None:
    """Raise TypeError or ValueError unless an outer loss is a scalar."""
    if not isinstance(loss, Tensor):
        raise TypeError(f"task_loss: returned {named(loss)}, should return a tensor")
    if loss.shape != torch.Size():
        raise ValueError(f"task_loss: returned shape {tuple(loss.shape)}, should be a scalar, ()")


def _compiled(task_loss: TaskLoss) -> Callable[[Tree, Any], tuple[Tree, Tensor]]:
    # Random numbers as in eager code, so that seeds mean the same.
    return torch.compile(torch.func.grad_and_value(task_loss), options={"fallback_random": True})


@contextmanager
def _seeded(seed: int | None, index: int) -> Iterator[None]:
    if seed is None:
        yield
        return
    with torch.random.fork_rng():
        torch.manual_seed(seed + index)
        yield
