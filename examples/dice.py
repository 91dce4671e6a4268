"""Policy gradients through adaptation, by DiCE: an initial policy that one update makes good."""

import torch
from data import iterations

import innerloop as il

torch.manual_seed(0)
TASKS, EPISODES, ARMS = 32, 40, 6


def arms():
    """Bandits whose arms pay alike in pairs: to try one tells about the other."""
    means = torch.randn(TASKS, ARMS // 2)
    return means.repeat_interleave(2, dim=-1)


def dice(policy, means):
    """The expected reward by episodes: its derivatives of every order are unbiased estimates."""
    choices = torch.distributions.Categorical(logits=policy.detach()).sample((EPISODES,)).T
    rewards = means.gather(-1, choices) + 0.1 * torch.randn(TASKS, EPISODES)
    log_probability = policy.log_softmax(-1).gather(-1, choices)
    magic_box = (log_probability - log_probability.detach()).exp()
    # Less what the others got on average, which keeps the estimates unbiased, at less variance.
    others = (rewards.sum(-1, keepdim=True) - rewards) / (EPISODES - 1)
    return (magic_box * (rewards - others) + others).mean(-1)


initial = torch.zeros(ARMS, requires_grad=True)
step = torch.tensor(0.0, requires_grad=True)
sharing = torch.zeros(ARMS, ARMS, requires_grad=True)  # how a gradient moves the other arms


def adapted(means):
    """Policies after one update on episodes of their own."""

    def update(gradient, state):
        moved = gradient + gradient @ sharing
        return -step.exp() * moved, state

    problem = il.Objective(lambda policy: -dice(policy, means), batch_shape=(TASKS,))
    start = initial.expand(TASKS, ARMS)
    return il.solve(problem, start, il.LearnedUpdate(update)).value


def reward() -> float:
    torch.manual_seed(1)
    found = [(adapted(means).softmax(-1) * means).sum(-1).mean() for means in tests]
    return torch.stack(found).mean().item()


tests = [arms() for _ in range(20)]
before = reward()
optimizer = torch.optim.Adam([initial, step, sharing], lr=0.05)
for _ in range(iterations(300)):
    means = arms()
    optimizer.zero_grad()
    (-dice(adapted(means), means).mean()).backward()
    optimizer.step()
best = torch.stack(tests).amax(-1).mean().item()
print(f"dice: reward of adapted policies {before:.2f} before, {reward():.2f} after meta-training;")
print(f"  of the best arm {best:.2f}")
