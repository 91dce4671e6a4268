"""MAML++: rates per layer and step, batch normalisation per step; 5-way digits."""

import copy

import torch
from data import Digits, iterations
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

import innerloop as il

torch.manual_seed(0)
STEPS = 3
ADAPTING = "[049].*"
net = nn.Sequential(
    *(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)),
    *(nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)),
    *(nn.Flatten(), nn.Linear(64, 5)),
)
# A net for every step and one for the queries. The adapting parameters pass through all of them;
# each has its own statistics, scales and shifts of batch normalisation.
nets = [copy.deepcopy(net) for _ in range(STEPS + 1)]
frozen = [il.Adapted(each, ADAPTING, buffers="frozen") for each in nets]
per_task = [il.Adapted(each, ADAPTING, buffers="per_task") for each in nets]
init = frozen[0].values
rates = il.LearningRates(init, per="tensor", init=0.2, per_step=STEPS)
norms = [{name: p for name, p in each.named_parameters() if name not in init} for each in nets]
meta = {"init": init, "norms": norms, "rates": dict(rates.named_parameters())}
digits = Digits()


def adapt(meta, task, models=frozen, adjoint=None):
    """The model of every step, adapted from that of the step before."""
    values, adapted = meta["init"], []
    for step, (model, norms) in enumerate(zip(models, meta["norms"], strict=True)):
        x, y = task[:2] if step < STEPS else task[2:]
        model = model.adapt(
            lambda model, x=x, y=y: F.cross_entropy(model(x), y),
            il.GradientDescent(functional_call(rates, meta["rates"], step)),
            init={**values, **norms},
            steps=1 if step < STEPS else 0,
            adjoint=adjoint,
        )
        values = model.values
        adapted.append(model)
    return adapted


def task_loss(meta, task):
    return F.cross_entropy(adapt(meta, task)[-1](task[2]), task[3])


def after_step(momentum: float = 0.05) -> None:
    """Move the running statistics of every step toward those of one more task."""
    rates.clamp_()
    (task,) = zip(*digits(1), strict=True)
    for each, model in zip(nets, adapt(meta, task, per_task, il.Detach()), strict=True):
        found = model.state_dict()
        for name, buffer in each.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer.lerp_(found[name], momentum)


def accuracy(tasks: int = 200) -> float:
    right = [
        (adapt(meta, task, adjoint=il.Detach())[-1](task[2]).argmax(-1) == task[3]).float().mean()
        for task in zip(*digits(tasks, test=True), strict=True)
    ]
    return 100 * torch.stack(right).mean().item()


before = accuracy()
scales = [p for own in norms for p in own.values()]
optimizer = torch.optim.Adam([*init.values(), *scales, *rates.parameters()], lr=3e-3)
batches = (digits(4) for _ in range(iterations(250)))
il.meta_train(task_loss, meta, batches, optimizer, mode="vmap", after_step=after_step)
print(f"MAML++: accuracy on new classes {before:.1f} % untrained, {accuracy():.1f} % trained")
for name, row in rates.report().items():
    print(f"  {name:9} rates {row.minimum:.3f} to {row.maximum:.3f}")
