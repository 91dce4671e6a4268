"""MAML and first-order MAML: learn the initialisation of gradient descent, on sinusoids."""

import torch
from data import iterations, sinusoids
from torch import nn
from torch.nn import functional as F

import innerloop as il


def train(adjoint: il.Adjoint) -> tuple[float, float]:
    """Meta-train; return the query error of new tasks before and after five adaptation steps."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(1, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 1))
    model = il.Adapted(net)

    def task_loss(init, task, steps=1, adjoint=adjoint):
        support_x, support_y, query_x, query_y = task
        adapted = model.adapt(
            lambda model: F.mse_loss(model(support_x), support_y),
            il.GradientDescent(0.01),
            init=init,
            steps=steps,
            adjoint=adjoint,
        )
        return F.mse_loss(adapted(query_x), query_y)

    init = dict(net.named_parameters())
    il.meta_train(
        task_loss,
        init,
        (sinusoids(25) for _ in range(iterations(1000))),
        torch.optim.Adam(net.parameters(), lr=2e-3),
        mode="vmap",
    )
    errors = []
    for steps in (0, 5):
        test = [
            task_loss(init, task, steps, il.Detach()) for task in zip(*sinusoids(200), strict=True)
        ]
        errors.append(torch.stack(test).mean().item())
    return errors[0], errors[1]


if __name__ == "__main__":
    for name, adjoint in (("MAML", il.Unroll()), ("first-order MAML", il.FirstOrder())):
        before, after = train(adjoint)
        print(f"{name}: error {before:.2f} before and {after:.2f} after 5 steps on 10 points")
