"""The streaming interface that every segmentation method shares."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from innerloop.errors import InputError
from innerloop_vos.io.masks import box_to_mask, check_mask

_CERTAIN = 100.0
"""Score of a pixel that the user's mask decides."""


def soft_aggregate(scores: Tensor) -> Tensor:
    """Merge the scores of several objects into one distribution per pixel.

    Args:
        scores: logits of being each object, shape (O, H, W).

    Returns:
        Probabilities of the background and of each object, shape (1 + O, H, W), summing to 1.

    Source:
        Bhat et al., Learning What to Learn, ECCV 2020, section 3.5, after Oh et al., Fast
        Video Object Segmentation by Reference-Guided Mask Propagation, CVPR 2018 (soft
        aggregation): the background's probability is that of being no object.
    """
    background = F.logsigmoid(-scores).sum(0).exp().clamp(1e-7, 1 - 1e-7)
    return torch.cat([background.logit()[None], scores]).softmax(0)


@dataclass(frozen=True)
class Observation:
    """What a method finds in a frame, before its objects are merged.

    Attributes:
        logits: of being each object, shape (O, H, W).
    """

    logits: Tensor


@dataclass(frozen=True)
class Progress:
    """How far work that takes long within one frame has come.

    Attributes:
        what: the work, such as "fine-tuning object 1".
        done: steps done.
        total: steps in all.
        loss: of the last of these steps.
    """

    what: str
    done: int
    total: int
    loss: float


class Segmenter(ABC):
    """Segments a video frame by frame, from the masks of its objects where they first appear.

    Call `start` with the first frame and its masks, then `step` with every later frame; `step`
    takes masks too where further objects appear. Where the result is wrong, call `correct` with the
    frame and its true masks, and go on from there with `step`, forwards or backwards. A method
    implements the abstract steps below.

    Args:
        device: where the work is done. Default: the CPU.

    Attributes:
        ids: of the objects, in the order of all that has an axis of objects.
        probabilities: of the background and the objects in the latest frame, shape (1 + O, H, W).
        observation: what the method found there, before the objects were merged; None where all
            masks were given, and after `forget`.
        from_boxes: whether the video's first masks were found in boxes.
        on_progress: called after every step of work that takes long within one frame, such as
            fine-tuning. Default: None, nothing is called.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.ids: list[int] = []
        self.probabilities = torch.empty(0)
        self.observation: Observation | None = None
        self.from_boxes = False
        self.on_progress: Callable[[Progress], None] | None = None
        self._size: tuple[int, int] | None = None

    @torch.no_grad()
    def start(self, frame: Tensor, masks: Tensor, *, from_boxes: bool = False) -> Tensor:
        """Begin a video.

        Args:
            frame: RGB, shape (3, H, W), uint8.
            masks: object ids (1 to 254, any of them), 0 for background, shape (H, W), uint8.
            from_boxes: whether `mask_from_box` found them, so that they are less certain. Default
                False.

        Returns:
            The masks as given.

        Raises:
            InputError: the frame is no such tensor, or the masks are empty or of another size.
        """
        self._size, self.ids = None, []
        check_frame(frame, None)
        _check_tensor(masks, "masks", "(H, W)")
        check_mask(masks, (frame.shape[1], frame.shape[2]))
        self._size = (frame.shape[1], frame.shape[2])
        self.from_boxes = from_boxes
        self.reset()
        self.observation = None
        encoded = self.encode(frame.to(self.device))
        nothing = torch.empty(0, *self._size, device=self.device)
        self.add(encoded, self._merge(nothing, masks))
        return self._labels()

    @torch.no_grad()
    def step(self, frame: Tensor, masks: Tensor | None = None) -> Tensor:
        """Segment the next frame.

        Args:
            frame: RGB, shape (3, H, W) as at the start, uint8.
            masks: ids of objects that appear in this frame, where there are any, shape (H, W),
                uint8; ids that are known already are left to the method.

        Returns:
            Object ids, shape (H, W), uint8, on the CPU. `probabilities` has the distribution over
            the background and `ids`, shape (1 + O, H, W).

        Raises:
            InputError: the frame or the masks do not fit the video.
            RuntimeError: no video was started.
        """
        size = self._started("step")
        check_frame(frame, size)
        if masks is not None:
            _check_tensor(masks, "masks", "(H, W)")
            check_mask(masks, size, "masks")
        encoded = self.encode(frame.to(self.device))
        self.observation = found = self.track(encoded)
        known = len(self.ids)
        new = self._merge(found.logits, masks)
        self.update(found, self.probabilities[1 : 1 + known])
        if len(new):
            self.add(encoded, new)
        return self._labels()

    @torch.no_grad()
    def correct(self, frame: Tensor, masks: Tensor) -> Tensor:
        """Learn the true masks of a frame, such as one whose result the user has painted over.

        What the objects have learned from results is forgotten; what they have learned from masks
        that were given, in the first frame and in corrected ones, stays. The next `step` goes on
        from this frame, in either direction.

        Args:
            frame: any frame of the video, RGB, shape (3, H, W) as at the start, uint8.
            masks: ids of all objects that are visible in it, shape (H, W), uint8; may be empty. New
                ids are added as in `step`; known ones that are not shown are absent from this
                frame, and are still looked for.

        Returns:
            The masks as given, on the CPU.

        Raises:
            InputError: the frame or the masks do not fit the video.
            RuntimeError: no video was started.
        """
        size = self._started("correct")
        check_frame(frame, size)
        _check_tensor(masks, "masks", "(H, W)")
        check_mask(masks, size, "masks", empty=True)
        encoded = self.encode(frame.to(self.device))
        self.observation = None
        shown = _drawn(masks.to(self.device), self.ids)
        new = self._merge(_certain(shown), masks)
        self.trust(encoded, shown)
        if len(new):
            self.add(encoded, new)
        return self._labels()

    def forget(self, ids: Iterable[int]) -> None:
        """Follow some objects no longer; where they are in the latest frame is background.

        Args:
            ids: of these objects.

        Raises:
            InputError: an id is not known, or no object would be left.
            RuntimeError: no video was started.
        """
        self._started("forget")
        if not isinstance(ids, Iterable):
            raise InputError(f"ids: {ids!r}, should be several ids, such as [{ids}]")
        gone = set(ids)
        if unknown := sorted(gone - set(self.ids), key=str):
            raise InputError(f"ids: {unknown} are not known; there are {sorted(self.ids)}")
        kept = [place for place, id_ in enumerate(self.ids) if id_ not in gone]
        if not kept:
            raise InputError(f"ids: {sorted(gone)} are all objects, of which one should be left")
        left = [place for place in range(len(self.ids)) if place not in kept]
        background, objects = self.probabilities[:1], self.probabilities[1:]
        background = background + objects[left].sum(0)
        self.probabilities = torch.cat([background, objects[kept]])
        self.ids = [self.ids[place] for place in kept]
        self.observation = None
        self.keep(kept)

    def _started(self, call: str) -> tuple[int, int]:
        """The size of the video's frames."""
        if self._size is None:
            raise RuntimeError(f"{call}: call start with the first frame and its masks before")
        return self._size

    def _merge(self, scores: Tensor, masks: Tensor | None) -> Tensor:
        """Merge the scores of known objects with the masks of new ones, and return those."""
        new: list[int] = []
        if masks is not None:
            new = sorted(
                set(masks.flatten().bincount().nonzero().flatten().tolist()) - {0, *self.ids}
            )
            masks = masks.to(self.device)
        drawn = _drawn(masks, new) if masks is not None and new else scores[:0].bool()
        self.ids = self.ids + new
        self.probabilities = self.merge(torch.cat([scores, _certain(drawn).to(scores)]))
        return drawn

    def _labels(self) -> Tensor:
        """The likeliest object of each pixel, on the CPU."""
        labels = torch.tensor([0, *self.ids], dtype=torch.uint8)
        return labels[self.probabilities.max(0).indices.cpu()]  # argmax: ten times slower on a CPU

    def merge(self, scores: Tensor) -> Tensor:
        """Merge the scores (O, H, W) of all objects into one distribution, as `soft_aggregate`."""
        return soft_aggregate(scores)

    def state_dict(self) -> dict[str, Any]:
        """Return all that the next `step` depends on, to go on with in another process.

        Returns:
            Tensors and plain values, which the next step may change.

        Raises:
            NotImplementedError: the method has no such state.
        """
        video = {
            "size": self._size,
            "ids": self.ids,
            "probabilities": self.probabilities,
            "from_boxes": self.from_boxes,
        }
        return video | {"learned": self.learned()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with the video of a `state_dict`, as the segmenter that it is of would.

        Args:
            state: of a segmenter with the same network and options.
        """
        self.from_boxes = state["from_boxes"]
        self.reset()
        self._size, self.ids = state["size"], state["ids"]
        self.probabilities = state["probabilities"].to(self.device)
        self.relearn(state["learned"])

    def learned(self) -> Any:
        """Return what was learned of the video so far, for `state_dict`."""
        raise NotImplementedError(f"{type(self).__name__} has no state to go on from")

    def relearn(self, state: Any) -> None:
        """Take what `learned` returned, with its tensors on the CPU; `reset` was called before."""
        raise NotImplementedError(f"{type(self).__name__} has no state to go on from")

    @abstractmethod
    def mask_from_box(self, frame: Tensor, box: tuple[int, int, int, int]) -> Tensor:
        """Find the mask of the object in a box, to start with where no mask is at hand.

        Args:
            frame: RGB, shape (3, H, W), uint8.
            box: left, top, width and height in pixels, inside the frame.

        Returns:
            1 on the object and 0 elsewhere, shape (H, W), uint8.

        Raises:
            InputError: the frame is no such tensor, or the box has no area or does not lie inside
                it.
        """

    @abstractmethod
    def reset(self) -> None:
        """Forget the previous video."""

    @abstractmethod
    def encode(self, frame: Tensor) -> Any:
        """Compute once what `track` and `add` need of a frame, (3, H, W) uint8."""

    @abstractmethod
    def add(self, encoded: Any, masks: Tensor) -> None:
        """Learn new objects from their masks in this frame, shape (new, H, W), bool."""

    @abstractmethod
    def trust(self, encoded: Any, masks: Tensor) -> None:
        """Learn all known objects from their true masks in this frame, shape (O, H, W), bool, as
        from the first ones; empty masks are those of objects that are absent from it."""

    @abstractmethod
    def keep(self, places: list[int]) -> None:
        """Forget all objects but those at these places, in their order; at least one is left."""

    @abstractmethod
    def track(self, encoded: Any) -> Observation:
        """Find every known object in a new frame; what `update` needs may be in a subclass."""

    @abstractmethod
    def update(self, observation: Any, merged: Tensor) -> None:
        """Learn from what `track` found and the merged probabilities, shape (O, H, W)."""


def mask_of_box(frame: Tensor, box: tuple[int, int, int, int]) -> Tensor:
    """Check a frame and fill a box in it, for `Segmenter.mask_from_box`; see `box_to_mask`."""
    check_frame(frame, None)
    return box_to_mask(box, (frame.shape[1], frame.shape[2]))


def _drawn(masks: Tensor, ids: list[int]) -> Tensor:
    """Where masks (H, W) show each id, shape (ids, H, W), bool."""
    return torch.stack([masks == id_ for id_ in ids])


def _certain(drawn: Tensor) -> Tensor:
    """Scores of pixels that the user's masks decide."""
    return _CERTAIN * (2 * drawn.float() - 1)


def _check_tensor(value: object, name: str, shape: str) -> None:
    if not isinstance(value, Tensor):
        raise InputError(
            f"{name}: {type(value).__name__}; should be a torch.Tensor, {shape} uint8, such as "
            "torch.from_numpy makes of a NumPy array"
        )


def check_frame(frame: Tensor, size: tuple[int, int] | None) -> None:
    """Check a frame of a video.

    Args:
        frame: RGB, shape (3, H, W), uint8.
        size: H and W of the video's first frame. None: this is it.

    Raises:
        InputError: it is no such tensor, or of another size.
    """
    _check_tensor(frame, "frame", "RGB, (3, H, W)")
    if frame.ndim != 3 or frame.shape[0] != 3 or frame.dtype != torch.uint8:
        raise InputError(
            f"frame: shape {tuple(frame.shape)}, {frame.dtype}; should be (3, H, W) uint8"
        )
    if size is not None and frame.shape[1:] != size:
        raise InputError(
            f"frame: {frame.shape[2]}x{frame.shape[1]} pixels; the video's first frame is "
            f"{size[1]}x{size[0]}"
        )
