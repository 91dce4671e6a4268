"""iMAML: the outer gradient of a regularised minimum, however many steps led there; sinusoids."""

import torch
from data import sinusoids
from torch import nn
from torch.nn import functional as F

import innerloop as il

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(1, 40), nn.Tanh(), nn.Linear(40, 40), nn.Tanh(), nn.Linear(40, 1))
model = il.Adapted(net)
init = dict(net.named_parameters())
STRENGTH = 0.5


def task_loss(init, task, steps=16):
    support_x, support_y, query_x, query_y = task

    def loss(params):
        # The proximal term ties the solution to the start: the start is a hyperparameter.
        distance = sum((params[name] - init[name]).square().sum() for name in params)
        prediction = torch.func.functional_call(net, params, support_x)
        return F.mse_loss(prediction, support_y) + 0.5 * STRENGTH * distance

    solution = il.solve(
        loss,
        init,
        il.GradientDescent(0.05),
        steps=steps,
        adjoint=il.Implicit(il.ConjugateGradient(), steps=5),
    )
    return F.mse_loss(torch.func.functional_call(net, solution.value, query_x), query_y)


test_tasks = list(zip(*sinusoids(100), strict=True))


def test_error() -> float:
    return sum(task_loss(init, task).item() for task in test_tasks) / len(test_tasks)


before = test_error()
optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
batches = (sinusoids(10) for _ in range(300))
il.meta_train(task_loss, init, batches, optimizer, mode="vmap")
print(
    f"iMAML: error after 16 steps on 10 points {before:.2f} untrained, {test_error():.2f} trained"
)
