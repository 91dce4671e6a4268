"""One object that is followed: the network adapted to it, and where it was last."""

import copy
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from typing import Any

import torch
from torch import Tensor

import innerloop as il
from innerloop_vos.eosvos.augmentation import augmented_copies
from innerloop_vos.eosvos.boxes import jittered_boxes
from innerloop_vos.eosvos.finetuning import Batch, encode_batch, fine_tune
from innerloop_vos.eosvos.network import EOSVOS, Encoded
from innerloop_vos.eosvos.options import EOSVOSOptions

OnLoss = Callable[[int, int, Tensor], None]


class AdaptedObject:
    """Learns an object from its first frame, finds it in later ones and learns from those.

    Frames whose masks were given are learned from together, each time an object is learned anew.

    Args:
        network: the network before it is adapted.
        start: the same, with the parameters that learn.
        rates: learning rates of the parameters that are trained.
        options: settings.
        first: the first frame with the object, through the layers that no object changes.
        mask: where the object is, shape (H, W), bool.
        on_loss: called with the number of each step of the fine-tuning, from 1, the number of all,
            and the loss. Default: nothing is called.
    """

    def __init__(
        self,
        network: EOSVOS,
        start: il.Adapted,
        rates: Mapping[str, Tensor],
        options: EOSVOSOptions,
        first: Encoded,
        mask: Tensor,
        on_loss: OnLoss | None = None,
    ) -> None:
        self.options = options
        self._network, self._start, self._rates = network, start, rates
        self._given = [(first.images[0], mask)]
        self._depth = first.depth
        self._past = _past(options)
        self._frames = 1
        self._mask = self._block_mask = mask
        self._tuned = self._adapted = start
        self._tune(on_loss)

    @classmethod
    def from_state(
        cls,
        network: EOSVOS,
        start: il.Adapted,
        rates: Mapping[str, Tensor],
        options: EOSVOSOptions,
        state: Mapping[str, Any],
    ) -> "AdaptedObject":
        """Make the target that a `state_dict` is of, with all else as it was made with."""
        target = cls.__new__(cls)
        target.options = options
        target._network, target._start, target._rates = network, start, rates
        target._given = [state["first"], *state.get("corrected", ())]
        target._depth, target._frames = state["depth"], state["frames"]
        target._past = _past(options)
        target._past.extend(state["past"])
        target._mask, target._block_mask = state["mask"], state["block_mask"]
        target._tuned, target._adapted = copy.copy(start), copy.copy(start)
        target._tuned.values, target._adapted.values = state["tuned"], state["adapted"]
        return target

    def state_dict(self) -> dict[str, Any]:
        """Return the adapted networks, and the frames that they learn from."""
        return {
            "first": self._given[0],
            "corrected": self._given[1:],
            "depth": self._depth,
            "frames": self._frames,
            "past": list(self._past),
            "mask": self._mask,
            "block_mask": self._block_mask,
            "tuned": _detached(self._tuned.values),
            "adapted": _detached(self._adapted.values),
        }

    def trust(self, frame: Encoded, mask: Tensor, on_loss: OnLoss | None = None) -> None:
        """Learn the object anew, from a frame with its true mask too.

        Args:
            frame: as of `track`.
            mask: where the object is, shape (H, W), bool; empty where it is not in the frame.
            on_loss: see the class.
        """
        self._frames += 1
        self._given.append((frame.images[0], mask))
        self._past.clear()
        self._mask = mask
        if mask.any():
            self._block_mask = mask
        self._tune(on_loss)

    def track(self, frame: Encoded) -> Tensor:
        """Find the object in the next frame.

        Args:
            frame: through the layers that no object changes.

        Returns:
            The probability of being the object, shape (H, W); 0 everywhere if it is absent.
        """
        with self._random():
            boxes = self._propagated()
        (found,) = self._adapted(frame, boxes=[boxes], proposals=self.options.proposals)
        (image,) = frame.images
        certain = found["masks"][found["scores"] > self.options.min_score]
        probability = certain[0, 0] if len(certain) else image.new_zeros(image.shape[1:])
        self._mask = probability > 0.5
        self._past.append((image, self._mask))
        return probability

    def learn(self, on_loss: OnLoss | None = None) -> None:
        """Adapt to what was found, where the frame that was tracked last ends a block.

        Args:
            on_loss: see the class.
        """
        self._frames += 1
        interval = self.options.online_interval
        if interval is None or self._frames % interval:
            return
        batch = _batch([*self._given, *self._lagged()])
        start = self._tuned if self.options.reset else self._adapted
        with torch.no_grad():
            encoded = encode_batch(self._network, batch, self._depth)
        steps = self.options.online_steps
        self._adapted = self._fit(start, lambda: encoded, steps, on_loss, otherwise=start)
        self._block_mask = self._mask

    def _tune(self, on_loss: OnLoss | None) -> None:
        """Adapt the network, from its start, to the frames whose masks were given."""
        steps = self.options.steps
        self._tuned = self._adapted = self._fit(
            self._start, self._copies, steps, on_loss, otherwise=self._tuned
        )

    def _fit(
        self,
        start: il.Adapted,
        next_batch: Callable[[], Batch | Encoded],
        steps: int,
        on_loss: OnLoss | None,
        *,
        otherwise: il.Adapted,
    ) -> il.Adapted:
        numbers = count(1)

        def numbered(loss: Tensor) -> None:
            if on_loss:
                on_loss(next(numbers), steps, loss)

        try:
            with self._random():
                return fine_tune(
                    start, self._rates, next_batch, steps, adjoint=il.Detach(), on_loss=numbered
                )
        except il.SolveError as error:
            warnings.warn(
                f"fine-tuning diverged and is skipped, in frame {self._frames} of an object; "
                f"lower learning rates may help ({error})",
                stacklevel=2,
            )
            return otherwise

    def _copies(self) -> Batch:
        return augmented_copies(_batch(self._given), self.options)

    def _lagged(self) -> list[tuple[Tensor, Tensor]]:
        """The past frames to learn from, those in which the object was found."""
        lags = [lag for lag in self.options.online_lags if lag <= len(self._past)]
        return [self._past[-lag] for lag in lags if self._past[-lag][1].any()]

    def _propagated(self) -> Tensor:
        # An object that was lost is looked for where it was when the adaptation began.
        mask = self._mask if self._mask.any() else self._block_mask
        return jittered_boxes(mask, self.options.propagated, self.options.box_jitter)

    @contextmanager
    def _random(self) -> Iterator[None]:
        """Draw random numbers that depend on the seed and the frame alone."""
        device = self._mask.device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(self.options.seed + self._frames)
            yield


def _batch(frames: Iterable[tuple[Tensor, Tensor]]) -> Batch:
    return Batch(*map(list, zip(*frames, strict=True)))


def _past(options: EOSVOSOptions) -> deque[tuple[Tensor, Tensor]]:
    return deque(maxlen=max(options.online_lags, default=0))


def _detached(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in values.items()}
