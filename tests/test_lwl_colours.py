"""Features of colour: the kernel that they stand for, and the target model that sees them."""

import pytest
import torch
from torch.nn import functional as F

import innerloop as il
from innerloop_vos.backbones import backbone
from innerloop_vos.lwl import LWL
from innerloop_vos.lwl.model.colours import ColourFeatures

SIZES = {"stride": 8, "outputs": 1, "mask_label": True, "decoder_widths": (8, 8, 8, 8)}


def plain(colours):
    """Images of one colour each, 16x16."""
    return torch.tensor(colours)[:, :, None, None].expand(-1, -1, 16, 16)


def test_they_approximate_a_gaussian_kernel():
    near = [[0.5, 0.5, 0.5], [0.55, 0.5, 0.5], [0.5, 0.4, 0.55], [0.1, 0.9, 0.3]]
    colours = torch.tensor(near, dtype=torch.float64)
    features = ColourFeatures(20000).double()(plain(near).double(), (2, 2))[:, :, 0, 0]
    expected = 2 * torch.exp(-torch.cdist(colours, colours).square() * 8**2 / 2)
    torch.testing.assert_close(features @ features.T, expected, rtol=0, atol=0.05)


def test_they_have_one_norm_in_plain_regions_and_less_across_edges():
    features = ColourFeatures(8)
    image = torch.rand(1, 3, 1, 1).expand(-1, -1, 16, 32).clone()
    square = features(image, (2, 4)).square().sum(1)
    torch.testing.assert_close(square, torch.full((1, 2, 4), 2.0))
    image[..., :12] = 1 - image[..., :12]  # halfway through the second column of cells
    square = features(image, (2, 4)).square().sum(1)
    torch.testing.assert_close(square[..., [0, 2, 3]], torch.full((1, 2, 3), 2.0))
    assert (square[..., 1] < 1.9).all()


def test_each_cell_is_the_mean_of_its_pixels():
    features = ColourFeatures(8)
    image = torch.rand(1, 3, 16, 24)
    whole = features(image, (8, 12))
    torch.testing.assert_close(features(image, (2, 3)), F.avg_pool2d(whole, 4))


def test_autocast_leaves_them_as_they_are():
    features, image = ColourFeatures(8), torch.rand(1, 3, 16, 24)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = features(image, (2, 3))
    assert torch.equal(found, features(image, (2, 3)))


@torch.no_grad()
def test_the_target_model_tells_colours_with_them():
    """Noise in three colours: the middle one is the object, which no linear function of RGB is."""
    torch.manual_seed(0)
    extractor = backbone("small")
    for parameter in extractor.parameters():
        parameter.zero_()
    grey = torch.tensor([0.2, 0.5, 0.8])[torch.randint(3, (12, 16))]
    image = F.interpolate(grey[None, None].expand(1, 3, -1, -1), scale_factor=8.0)
    mask = (image[:, 0] == 0.5).float()
    errors = []
    for colours in (0, 16):
        network = LWL(extractor, **SIZES, colours=colours)
        _, features = network.extract(image)
        labels, weights = network.label_encoder(mask)
        filters = network.target_model.fit(
            features[None], labels[None], weights[None], steps=50, adjoint=il.Detach()
        )
        scores = network.target_model.score(filters, features[None])[0, 0, 0]
        wrong = (scores > 0.5) != F.avg_pool2d(mask, 8)[0].bool()
        errors.append(wrong.float().mean())
    assert errors[0] > 0.2
    assert errors[1] < 0.02


@torch.no_grad()
def test_without_them_the_target_model_finds_a_filter_that_does_not_see_them():
    torch.manual_seed(0)
    network = LWL(backbone("small"), **SIZES, colours=6)
    target = network.target_model
    image, labels = torch.rand(2, 3, 48, 64), torch.rand(1, 2, 1, 6, 8)
    features = network.extract(image)[1]
    plain = target.without_colours(features)
    assert (plain[:, -6:] == 0).all()
    ratio = plain[:, :-6] / features[:, :-6]
    torch.testing.assert_close(ratio, ratio[:, :1, :1, :1].expand_as(ratio))
    norms = [part.square().sum((1, 2, 3)) for part in (plain, features)]
    torch.testing.assert_close(*norms)
    assert torch.equal(target.without_colours(features[None]), plain[None])
    filters = target.fit(plain[None], labels, torch.ones_like(labels), steps=3, adjoint=il.Detach())
    assert filters[:, :, -6:].count_nonzero() == 0
    assert filters[:, :, :-6].count_nonzero() > 0


@torch.no_grad()
def test_they_come_beside_the_projected_features():
    image = torch.rand(2, 3, 50, 70)
    network = LWL(backbone("small"), **SIZES, colours=6)
    network.add_box_encoder()
    assert network.extract(image)[1].shape == (2, network.sizes["features"] + 6, 7, 9)
    assert network.segment_box(image, torch.ones(2, 50, 70)).shape == (2, 50, 70)


@pytest.mark.parametrize(("stride", "colours"), [(8, 5), (8, -2), (16, 4)])
def test_numbers_that_cannot_be_are_named(stride, colours):
    with pytest.raises(ValueError, match=f"colours: {colours}, should be 0, or positive and even"):
        LWL(backbone("small"), **(SIZES | {"stride": stride}), colours=colours)
