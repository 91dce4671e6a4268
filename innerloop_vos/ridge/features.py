"""The features of a frame that the target model sees."""

from torch import Tensor, nn

from innerloop_vos.backbones import Backbone
from innerloop_vos.backbones.joining import check_finite, join_levels


class TargetFeatures(nn.Module):
    """A backbone's target levels, normalised to unit length per pixel, concatenated at stride 8.

    Args:
        backbone: the network; its `target_levels` are used.
        stride: image pixels per feature pixel. Default 8.
    """

    def __init__(self, backbone: Backbone, stride: int = 8) -> None:
        super().__init__()
        self.backbone = backbone
        self.stride = stride

    def forward(self, images: Tensor) -> Tensor:
        """Compute the features of images.

        Args:
            images: RGB in 0..1, shape (N, 3, H, W).

        Returns:
            Shape (N, C, ceil(H / stride), ceil(W / stride)).

        Raises:
            InputError: a feature is not finite.
        """
        height, width = (-(-side // self.stride) for side in images.shape[-2:])
        levels = self.backbone(images)
        features = join_levels(
            [levels[name] for name in self.backbone.target_levels], (height, width)
        )
        return check_finite(features)
