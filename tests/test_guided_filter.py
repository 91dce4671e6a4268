"""The guided filter on images with known answers."""

import torch

from innerloop_vos.postprocessing.guided_filter import guided_upsample


def two_colours(height=64, width=96, edge=45):
    image = torch.zeros(3, height, width)
    image[0, :, :edge] = 0.9
    image[1, :, edge:] = 0.7
    return image


def test_edges_of_the_scores_move_to_those_of_the_image():
    image = two_colours()
    scores = torch.zeros(1, 8, 12)
    scores[..., :6] = 1  # the coarse edge is at 48, the true one at 45
    result = guided_upsample(scores, image, radius=4, eps=1e-4, subsampling=2)
    truth = image[0] > 0.5
    plain = torch.nn.functional.interpolate(scores[None], (64, 96), mode="bilinear")[0, 0] > 0.5
    assert ((result[0] > 0.5) != truth).float().mean() < 0.005
    assert (plain != truth).float().mean() > 0.02


def test_a_score_that_is_affine_in_the_colours_is_kept():
    torch.manual_seed(0)
    image = torch.rand(3, 32, 48)
    weights = torch.tensor([[0.3, -0.2, 0.5], [1.0, 0.1, -0.4]])
    scores = torch.einsum("oc,chw->ohw", weights, image) + 0.1
    result = guided_upsample(scores, image, radius=2, eps=1e-9, subsampling=1)
    torch.testing.assert_close(result, scores, rtol=1e-3, atol=1e-3)


def test_a_constant_stays_constant_on_any_size():
    image = torch.rand(3, 37, 53)
    result = guided_upsample(torch.full((2, 5, 7), 0.6), image)
    assert result.shape == (2, 37, 53)
    torch.testing.assert_close(result, torch.full_like(result, 0.6), rtol=1e-4, atol=1e-4)
