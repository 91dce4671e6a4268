"""Settings of e-OSVOS on video."""

from dataclasses import dataclass


@dataclass(frozen=True)
class EOSVOSOptions:
    """How a video is segmented. The defaults are the released system's, with T = 10.

    Args:
        steps: T, fine-tuning steps on the first frame of an object; the paper has 10, 50 and 100.
        rate_factor: what all learning rates are multiplied by.
        copies: copies of the first frame, and of each corrected one, in each of these steps, each
            augmented differently.
        flip: whether copies are mirrored, half of them.
        rotation: max angle by which copies are rotated, either way, in degrees.
        scale: min and max factor by which copies are scaled.
        online_interval: frames from one online adaptation to the next. None: no adaptation.
        online_steps: fine-tuning steps of an online adaptation.
        online_lags: predicted frames that these steps learn from, counted back from the next frame;
            the first frame is always added. Frames without the object are left out.
        reset: whether an adaptation starts from the state after the first frame instead of the
            state after the previous adaptation.
        proposals: max number of boxes that the network proposes per frame.
        propagated: number of boxes around the object's place in the previous frame. 0: none.
        box_jitter: max share of its width or height that each side of such a box is moved
            outward by.
        min_score: the object counts as absent if the best box's score is not above this.
        half: whether the layers compute in bfloat16, which is faster on GPUs and on processors that
            are made for it. With `--method e-osvos`, that is so where it is faster.
        seed: seed of all random choices.

    Source:
        Meinhardt and Leal-Taixé, Make One-Shot Video Object Segmentation Efficient Again, NeurIPS
        2020, sections 3.3 and 4.2.
    """

    steps: int = 10
    rate_factor: float = 1.0
    copies: int = 3
    flip: bool = True
    rotation: float = 30.0
    scale: tuple[float, float] = (0.75, 1.25)
    online_interval: int | None = 5
    online_steps: int = 10
    online_lags: tuple[int, ...] = (3, 4)
    reset: bool = True
    proposals: int = 500
    propagated: int = 500
    box_jitter: float = 0.1
    min_score: float = 0.5
    half: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        minimum = {"steps": 0, "copies": 1, "online_steps": 0, "proposals": 0, "propagated": 0}
        minimum["seed"] = 0
        for name, limit in minimum.items():
            if getattr(self, name) < limit:
                raise ValueError(f"{name}: {getattr(self, name)}, should be at least {limit}")
        if self.rate_factor <= 0:
            raise ValueError(f"rate_factor: {self.rate_factor}, should be positive")
        if self.proposals + self.propagated == 0:
            raise ValueError("proposals: 0, and propagated too; one of them should be above 0")
        if self.online_interval is not None and self.online_interval < 1:
            raise ValueError(f"online_interval: {self.online_interval}, should be at least 1")
        if any(lag < 1 for lag in self.online_lags):
            raise ValueError(f"online_lags: {self.online_lags}, should each be at least 1")
        if not 0.01 <= self.scale[0] <= self.scale[1] <= 100:
            raise ValueError(
                f"scale: {self.scale}, should be two factors, the smaller first, in 0.01..100"
            )
        if self.box_jitter < 0 or self.rotation < 0:
            raise ValueError(
                f"box_jitter, rotation: {self.box_jitter}, {self.rotation}, should not be negative"
            )
