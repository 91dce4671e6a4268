"""The training of e-OSVOS: a step of each phase, and how it measures itself."""

import contextlib
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn

import innerloop as il
from innerloop.errors import InputError
from innerloop_vos.data.pasting import PastingSampler
from innerloop_vos.data.sampling import ClipSampler, Sampler
from innerloop_vos.eosvos.augmentation import augmented_copies
from innerloop_vos.eosvos.finetuning import (
    Batch,
    encode_batch,
    fine_tune,
    rates_by_name,
    training_loss,
)
from innerloop_vos.eosvos.network import EOSVOS, Encoded
from innerloop_vos.eosvos.options import EOSVOSOptions
from innerloop_vos.eosvos.phases import EOSVOSTrainingSettings
from innerloop_vos.eosvos.segmenter import EOSVOSSegmenter
from innerloop_vos.eosvos.tasks import TaskSampler
from innerloop_vos.eosvos.weights import save_eosvos
from innerloop_vos.training.loop import Figures, Stateful, Training, cosine_rate
from innerloop_vos.training.processes import average_gradients
from innerloop_vos.training.validation import Validation

WEIGHTS = "e-osvos.safetensors"
_BODY = "backbone.body."
_WARMUP = 100  # steps


class EOSVOSTraining(Training):
    """Trains e-OSVOS: initialisation and learning rates through fine-tuning, or a plain network.

    Args:
        network: network where fine-tuning starts; changed, and moved to `device`.
        rates: learning rates of fine-tuning, the same in all steps; changed and moved alike.
        sampler: draws mini-sequences of two frames, to learn from and to be tested on; of one where
            `settings.inner_steps` is 0.
        validation: see `Validation`.
        settings: see `EOSVOSTrainingSettings`.
        options: how the held-out clips are segmented. Default: T = 10, no online adaptation.
        device: where to train. Default: the CPU.

    Source:
        Meinhardt and Leal-Taixé, Make One-Shot Video Object Segmentation Efficient Again, NeurIPS
        2020, section 3.2, and algorithm 1 of its supplement.
    """

    def __init__(
        self,
        network: EOSVOS,
        rates: il.LearningRates,
        sampler: Sampler,
        validation: Validation,
        settings: EOSVOSTrainingSettings,
        options: EOSVOSOptions | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        torch.manual_seed(settings.seed)
        self.settings, self.validation, self.device = settings, validation, torch.device(device)
        self.options = options or EOSVOSOptions(online_interval=None)
        self.network, self.inner_rates = network.to(self.device), rates.to(self.device)
        self.network.autocast = torch.bfloat16 if settings.bfloat16 else None
        short, long = network.sizes["image_size"]
        self.tasks = TaskSampler(sampler, (short, long), settings)
        self.held_out = None
        if validation.clips:
            length = 2 if settings.inner_steps else 1
            drawn = PastingSampler(
                ClipSampler(validation.clips, length, settings.window), settings.paste
            )
            self.held_out = TaskSampler(drawn, (short, long), settings)
        self.optimizer = torch.optim.RAdam(self._groups(), decoupled_weight_decay=True)

    def step(self, iteration: int) -> Figures:
        """Take one optimizer step.

        Returns:
            The loss, and the share of tasks that are left out because their fine-tuning diverged
            or their gradient is not finite.

        Raises:
            InputError: the fine-tuning of all tasks diverged.
        """
        settings = self.settings
        factor = 1.0
        if settings.schedule == "cosine":
            factor = cosine_rate(iteration, settings.iterations, warmup=_WARMUP)
        for group in self.optimizer.param_groups:
            group["lr"] = group["base"] * factor
        self.optimizer.zero_grad()
        tasks = [self._moved(self.tasks.sample()) for _ in range(settings.batch_size)]
        # The gradients of tasks are added one by one, at the memory of one task; and images of
        # different shapes are not padded to one.
        losses = [loss for task in tasks if (loss := self._backward(task)) is not None]
        if not losses:
            raise InputError(
                f"all {len(tasks)} tasks of step {iteration + 1} diverged; try lower learning rates"
            )
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad /= len(losses)
        average_gradients(parameters)
        finite = bool(nn.utils.clip_grad_norm_(parameters, settings.clip).isfinite())
        if finite:
            self.optimizer.step()
            self.inner_rates.clamp_()
        left_out = 1 - len(losses) / len(tasks) if finite else 1.0
        return {"train/loss": sum(losses) / len(losses), "left out/share": left_out}

    def _backward(self, task: Batch) -> float | None:
        """Add the gradient of a loss and return its value; None if the fine-tuning diverged."""
        try:
            loss = self._task_loss(task)
        except il.SolveError:
            return None
        if not loss.isfinite():
            return None
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.item()

    def _task_loss(self, task: Batch) -> Tensor:
        if not self.settings.inner_steps:
            return training_loss(self.network, task)
        train, test = (Batch(*(part[at] for part in task)) for at in (slice(1), slice(1, None)))
        rates = rates_by_name(self.network, self.inner_rates)
        tuned = fine_tune(self.network, rates, self._inner(train, rates), self.settings.inner_steps)
        return training_loss(tuned, test)

    def _inner(self, train: Batch, rates: Mapping[str, Tensor]) -> Callable[[], Batch | Encoded]:
        """What the inner steps learn from."""
        if self.settings.copies:
            options = replace(self.options, copies=self.settings.copies)
            return lambda: augmented_copies(train, options)
        # Frozen layers give the same output in all steps.
        encoded = encode_batch(self.network, train, self.network.common_depth(rates))
        return lambda: encoded

    def _moved(self, task: Batch) -> Batch:
        return Batch(*([part.to(self.device) for part in parts] for parts in task))

    def _groups(self) -> list[dict[str, Any]]:
        settings = self.settings
        parts: dict[bool, list[Tensor]] = {False: [], True: []}
        for name, parameter in self.network.named_parameters():
            if parameter.requires_grad:
                parts[name.startswith(_BODY)].append(parameter)
        groups: list[dict[str, Any]] = [
            {"params": parts[False], "base": settings.init_rate},
            {"params": parts[True], "base": settings.init_rate * settings.backbone_factor},
        ]
        for group in groups:
            group["weight_decay"] = settings.init_decay
        if settings.rates_rate:
            groups.append({"params": list(self.inner_rates.parameters())})
            groups[-1] |= {"base": settings.rates_rate, "weight_decay": 0.0}
        # Without gradients, the rates are constants during fine-tuning.
        self.inner_rates.requires_grad_(settings.rates_rate > 0)
        return [group | {"lr": group["base"]} for group in groups if group["params"]]

    def rates(self) -> Figures:
        """Return the outer learning rate of the last step."""
        return {"rate/initialisation": self.optimizer.param_groups[0]["lr"]}

    def evaluate(self) -> Figures:
        """Return loss, J and F of held-out clips, mean and frozen share of the rates."""
        rates = torch.cat([rate.detach().flatten() for rate in self.inner_rates.parameters()])
        figures = {
            "rates/mean": rates.mean().item(),
            "frozen/share": (rates == 0).double().mean().item(),
        }
        if self.held_out and self.settings.held_out_tasks:
            # Clips that are too short to draw tasks from can still be segmented.
            with contextlib.suppress(InputError):
                figures["held out/loss"] = self._held_out_loss(self.held_out)
        options = replace(self.options, half=self.settings.bfloat16)
        segmenter = EOSVOSSegmenter(self.network, self.inner_rates, options, self.device)
        return self.validation.figures(segmenter) | figures

    @torch.no_grad()
    def _held_out_loss(self, tasks: TaskSampler) -> float:
        """The mean loss of tasks that are the same each time; of those that do not diverge."""
        devices = [self.device] if self.device.type == "cuda" else []
        losses = []
        with torch.random.fork_rng(devices):
            torch.manual_seed(self.settings.seed)
            for _ in range(self.settings.held_out_tasks):
                task = self._moved(tasks.sample())
                with contextlib.suppress(il.SolveError):
                    losses.append(self._task_loss(task).item())
        return fmean(losses) if losses else math.inf

    def export(self, folder: Path) -> None:
        """Write the network with its rates, as `load_eosvos` reads them."""
        save_eosvos(self.network, self.inner_rates, folder / WEIGHTS)

    def configuration(self) -> dict[str, dict[str, Any]]:
        """Return the settings and the sizes of the network."""
        return {"settings": asdict(self.settings), "sizes": self.network.sizes}

    def parts(self) -> dict[str, Stateful]:
        """Return network, its learning rates and optimizer."""
        return {
            "network": self.network,
            "rates": self.inner_rates,
            "optimizer": self.optimizer,
        }
