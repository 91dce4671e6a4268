"""MAML on Omniglot: 5-way 1-shot with a net of four convolutions.

    python examples/omniglot.py --root FOLDER [--iterations 500]

Downloads Omniglot (10 MB) into the folder if it is missing.
"""

import argparse
import sys
from pathlib import Path

import torch
from data import few_shot
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.datasets import Omniglot
from torchvision.transforms import v2

import innerloop as il

TO_TENSOR = v2.Compose(
    [v2.ToImage(), v2.Resize((28, 28), antialias=True), v2.ToDtype(torch.float32, scale=True)]
)


def characters(root: Path, background: bool) -> list[Tensor]:
    """The images (20, 1, 28, 28) of every character, ink 1 and paper 0."""
    try:
        dataset = Omniglot(root, background, transform=TO_TENSOR, download=True)
    except (OSError, RuntimeError) as error:
        sys.exit(f"omniglot: not in {root} and not downloaded: {error}")
    images: dict[int, list[Tensor]] = {}
    for image, label in dataset:
        images.setdefault(label, []).append(1 - image)
    return [torch.stack(images[label]) for label in sorted(images)]


def conv_net(width: int = 32) -> nn.Sequential:
    """Four blocks of convolution, batch normalisation and pooling, from 28 x 28 to one pixel."""
    blocks: list[nn.Module] = []
    for channels in (1, width, width, width):
        blocks += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width)]
        blocks += [nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*blocks, nn.Flatten(), nn.Linear(width, 5))


def main(root: Path, iterations: int, test_tasks: int = 200) -> tuple[float, float]:
    """Meta-train; return the accuracy on new characters, in %, before and after."""
    torch.manual_seed(0)
    train, test = characters(root, background=True), characters(root, background=False)
    net = conv_net()
    model = il.Adapted(net, buffers="batch_statistics")
    init = dict(net.named_parameters())

    def adapt(init, task, adjoint=None):
        return model.adapt(
            lambda model: F.cross_entropy(model(task[0]), task[1]),
            il.GradientDescent(0.4),
            init=init,
            adjoint=adjoint,
        )

    def task_loss(init, task):
        return F.cross_entropy(adapt(init, task)(task[2]), task[3])

    def accuracy() -> float:
        right = [
            (adapt(init, task, il.Detach())(task[2]).argmax(-1) == task[3]).float().mean()
            for task in zip(*few_shot(test, test_tasks), strict=True)
        ]
        return 100 * torch.stack(right).mean().item()

    before = accuracy()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    il.meta_train(task_loss, init, (few_shot(train, 8) for _ in range(iterations)), optimizer)
    return before, accuracy()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--iterations", type=int, default=500)
    arguments = parser.parse_args()
    before, after = main(arguments.root, arguments.iterations)
    print(f"Omniglot: accuracy on new characters {before:.1f} % before, {after:.1f} % after")
