"""One cell of an ablation's table: a row's network trained from one seed, and its J and F."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.lwl.parts.rows import Row
from innerloop_vos.backbones import backbone
from innerloop_vos.configuration.options import changed
from innerloop_vos.data import Sequence as Clip
from innerloop_vos.data.sampling import ClipSampler
from innerloop_vos.lwl import LWL, LWLSegmenter, load_lwl
from innerloop_vos.lwl.builders import LIGHT_SIZES
from innerloop_vos.lwl.training.end_to_end import WEIGHTS, LWLTraining
from innerloop_vos.lwl.training.stages import LWLTrainingSettings
from innerloop_vos.training.loop import CHECKPOINT, run
from innerloop_vos.training.validation import Validation

_SIZES = LIGHT_SIZES | {"label_widths": (8, 16, 32), "decoder_widths": (32, 32, 24, 16)}
_SETTINGS = LWLTrainingSettings(
    test_frames=2,
    update_steps=1,
    jitter=0.5,
    loss_weight=1.0,
    regularization_rate=1e-4,
    projection_rate=1e-4,
    clip=1.0,
)
"""The light networks start as ridge regression from features to the mask; these keep them close."""


def trained(row: Row, seed: int, clips: Sequence[Clip], arguments: argparse.Namespace) -> LWL:
    """Train a row's network, continue its training, or load the trained one.

    Args:
        row: the row that the network belongs to.
        seed: seed of the initial weights and of the mini-sequences.
        clips: clips to train on.
        arguments: the parsed command line.

    Raises:
        KeyboardInterrupt: the training was interrupted; it can go on.
        InputError: the earlier training had other settings.
    """
    settings = replace(
        _SETTINGS,
        iterations=arguments.steps,
        decay_at=(3 * arguments.steps // 4,),
        weight_predictor_start=arguments.steps // 2,
        batch_size=arguments.batch_size,
        height=arguments.height,
        width=arguments.width,
        search_factor=arguments.search_factor,
        loss=arguments.loss,
        decoder_rate=arguments.decoder_rate,
        seed=seed,
    )
    settings = replace(settings, **row.settings)
    weights = arguments.backbone_weights[row.backbone_weights]
    torch.manual_seed(seed)
    network = LWL(backbone(arguments.backbone, weights), **(_SIZES | row.sizes))
    if row.training is None:
        return network
    sampler = ClipSampler(clips, 1 + settings.test_frames)
    training = LWLTraining(network, sampler, Validation([], 1), settings)
    folder = arguments.work / f"{row.training}-{Path(weights).stem}-{seed}"
    resume = (folder / CHECKPOINT).exists()
    if not run(training, folder, settings.iterations, every=settings.iterations, resume=resume):
        raise KeyboardInterrupt
    return load_lwl(folder / WEIGHTS)


def measured(
    network: LWL, row: Row, validation: Validation, arguments: argparse.Namespace
) -> dict[str, float]:
    """Segment the held-out clips as a row asks.

    Returns:
        J and F, means over the clips, and the J of each clip by its name, in percent.
    """
    options = changed(
        network.preset.mask,
        output=(arguments.height, arguments.width),
        search_factor=arguments.search_factor,
        # The paper uses neither.
        mirror=False,
        reach=None,
    )
    figures = validation.figures(LWLSegmenter(network, changed(options, **row.options)))
    return {name.rpartition("/")[2]: 100 * value for name, value in figures.items()}
