"""Convolutional least squares, the inner problem of Learning What to Learn."""

from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from innerloop.compare.bilevel import Bilevel, bilevel_suite
from innerloop.compare.suite import Suite
from innerloop.compare.suites.random import normal
from innerloop.errors import InputError
from innerloop.problems import ConvLeastSquares
from innerloop.solvers import ConjugateGradient, Ridge, SteepestDescent

KERNEL = 3


class Frames(NamedTuple):
    """A support frame, which the filter is fitted to, and a query frame; float64."""

    features: Tensor
    """Shape (2, C, H, W)."""
    targets: Tensor
    """Shape (2, D, H, W)."""


def conv_suite(kind: str, frames: Frames, steps: int, regularization: float) -> Suite:
    """Fit a filter to a support frame; the outer loss is its squared error on a query frame.

    Args:
        kind: kind of features, for the description.
        frames: support and query frame.
        steps: inner steps.
        regularization: λ as a multiple of the features' mean square summed over pixels, so that
            their scale does not matter.
    """
    channels, height, width = frames.features.shape[1:]
    outputs = frames.targets.shape[1]
    scale = float(frames.features[0].square().sum()) / channels
    return bilevel_suite(
        f"3x3 filter, {outputs} outputs, {channels} {kind} at {height}x{width}",
        partial(_make, frames, regularization * scale),
        steps=steps,
        solvers={
            "steepest descent": SteepestDescent(),
            "conjugate gradient": ConjugateGradient(),
            "ridge (closed form)": Ridge(),
        },
        adjoint_solver="conjugate gradient",
    )


def random_features(quick: bool) -> Suite:
    """At the scale of the paper, on independent random features."""
    channels, outputs, height, width = (128, 4, 15, 20) if quick else (512, 16, 30, 52)
    frames = Frames(
        normal(2, channels, height, width, seed=0), normal(2, outputs, height, width, seed=1)
    )
    return conv_suite("random channels", frames, 5 if quick else 10, regularization=0.1)


def features_of_file(path: Path, quick: bool) -> Suite:
    """On the user's own features and targets.

    Args:
        path: a NumPy archive (.npz) with `features` (2, C, H, W) and `targets` (2, D, H, W): a
            frame for fitting and a frame for testing.
        quick: take few steps.

    Raises:
        InputError: the file cannot be read, or holds something else.
    """
    import numpy as np

    try:
        with np.load(path) as archive:
            arrays = {name: torch.from_numpy(archive[name]) for name in Frames._fields}
    except (OSError, ValueError, KeyError, EOFError, TypeError, AttributeError) as error:
        raise InputError(
            f"--features: {path} should be a .npz file with 'features' and 'targets': {error}"
        ) from error
    features, targets = arrays["features"].double(), arrays["targets"].double()
    fits = features.ndim == targets.ndim == 4 and len(features) == len(targets) == 2
    if not fits or features.shape[2:] != targets.shape[2:] or not features.numel():
        raise InputError(
            f"--features: {path} holds features of shape {tuple(features.shape)} and targets of "
            f"{tuple(targets.shape)}, should be (2, C, H, W) and (2, D, H, W)"
        )
    if not (features.isfinite().all() and targets.isfinite().all()):
        raise InputError(f"--features: {path} holds NaN or infinity")
    frames = Frames(features, targets)
    return conv_suite(f"channels of {path.name}", frames, 5 if quick else 10, regularization=1.0)


def _make(frames: Frames, regularization: float, dtype: torch.dtype) -> Bilevel:
    features, query = frames.features.to(dtype)[:, None]
    targets, answers = frames.targets.to(dtype)[:, None]
    hyper = {
        "features": features,
        "targets": targets,
        "weights": torch.ones_like(targets[:, :1]),
        "log_regularization": torch.tensor(regularization, dtype=dtype).log(),
    }

    def problem(hyper: dict[str, Tensor]) -> ConvLeastSquares:
        decay = hyper["log_regularization"].exp()
        return ConvLeastSquares(hyper["features"], hyper["targets"], hyper["weights"], decay)

    def outer(weight: Tensor, hyper: dict[str, Tensor]) -> Tensor:
        return F.mse_loss(F.conv2d(query, weight, padding=KERNEL // 2), answers)

    init = features.new_zeros(targets.shape[1], features.shape[1], KERNEL, KERNEL)
    return Bilevel(hyper, problem, init, outer)
