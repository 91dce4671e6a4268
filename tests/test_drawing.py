import pytest
import torch
from PIL import Image

from innerloop.errors import InputError
from innerloop_vos.io.drawing import contact_sheet, overlay
from innerloop_vos.io.masks import PALETTE

FRAME = torch.full((3, 20, 30), 100, dtype=torch.uint8)


def test_overlay_tints_objects_and_outlines_them():
    labels = torch.zeros(20, 30, dtype=torch.uint8)
    labels[5:15, 5:15] = 1
    labels[5:15, 15:25] = 2
    before = labels.clone()
    picture = overlay(FRAME, labels, alpha=0.5)
    assert picture.dtype == torch.uint8
    assert picture[:, 10, 10].tolist() == [114, 50, 50]  # halfway to (128, 0, 0)
    assert picture[:, 10, 20].tolist() == [50, 114, 50]
    for row, column in [(5, 10), (14, 10), (10, 5), (10, 14)]:  # also where two objects touch
        assert picture[:, row, column].tolist() == [255, 127, 127]
    assert picture[:, 10, 15].tolist() == [127, 255, 127]
    for row, column in [(4, 10), (6, 10), (10, 4), (10, 6), (10, 13), (10, 16)]:
        assert picture[:, row, column].tolist() == [0, 0, 0]
    far = torch.ones_like(labels, dtype=torch.bool)
    far[4:16, 4:26] = False
    assert torch.equal(picture[:, far], FRAME[:, far])
    assert torch.equal(labels, before)
    assert (FRAME == 100).all()


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_alpha_goes_from_the_frame_to_the_colour(alpha):
    labels = torch.full((20, 30), 4, dtype=torch.uint8)
    expected = PALETTE[4].tolist() if alpha else [100, 100, 100]
    assert overlay(FRAME, labels, alpha)[:, 10, 10].tolist() == expected


def luminance(colour):
    """The relative luminance of WCAG 2."""
    share = colour.double() / 255
    linear = torch.where(share <= 0.03928, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return float(linear @ torch.tensor([0.2126, 0.7152, 0.0722], dtype=torch.double))


def contrast(a, b):
    """The contrast ratio of WCAG 2, from 1 to 21."""
    low, high = sorted([luminance(a), luminance(b)])
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("shade", [torch.zeros(3), torch.full((3,), 255), *PALETTE[1:9]])
@pytest.mark.parametrize("id_", [1, 2, 3, 4, 5, 6, 7, 8, 254])
def test_the_outline_differs_from_both_sides(shade, id_):
    frame = shade.to(torch.uint8)[:, None, None].expand(3, 20, 30)
    labels = torch.zeros(20, 30, dtype=torch.uint8)
    labels[:, 10:] = id_
    picture = overlay(frame, labels)[:, 10]
    background, outer, bright, inner, tint = (picture[:, column] for column in (8, 9, 10, 11, 12))
    assert torch.equal(background, frame[:, 0, 0])
    assert min(contrast(bright, outer), contrast(bright, inner)) > 5
    assert max(contrast(side, background) for side in (outer, bright)) > 2.3
    assert max(contrast(side, tint) for side in (inner, bright)) > 2.3


def test_an_object_that_fills_the_frame_has_no_outline():
    picture = overlay(FRAME, torch.ones(20, 30, dtype=torch.uint8))
    assert (picture == picture[:, :1, :1]).all()


def test_outlines_are_thicker_on_larger_frames():
    labels = torch.zeros(1200, 20, dtype=torch.uint8)
    labels[600:] = 1
    column = overlay(torch.full((3, 1200, 20), 50, dtype=torch.uint8), labels)[0, :, 10]
    assert (column == 255).nonzero().flatten().tolist() == [600, 601, 602]
    assert (column == 0).nonzero().flatten().tolist() == [597, 598, 599, 603, 604, 605]


def test_overlay_of_another_size():
    with pytest.raises(InputError, match=r"\(20, 29\) do not fit a frame of \(3, 20, 30\)"):
        overlay(FRAME, torch.zeros(20, 29, dtype=torch.uint8))


def test_a_contact_sheet_has_every_picture_in_its_place(tmp_path):
    pictures = [torch.full_like(FRAME, 40 * index) for index in range(5)]
    contact_sheet(pictures, tmp_path / "sheet.png", columns=3, width=60)
    sheet = Image.open(tmp_path / "sheet.png")
    assert sheet.size == (3 * 64 + 4, 2 * 44 + 4)
    for index in range(5):
        x, y = 4 + 64 * (index % 3) + 30, 4 + 44 * (index // 3) + 20
        assert sheet.getpixel((x, y)) == (40 * index,) * 3
    assert sheet.getpixel((4 + 64 * 2 + 30, 4 + 44 + 20)) == (255, 255, 255)
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]


def test_captions_take_a_line_above_each_picture(tmp_path):
    contact_sheet([FRAME], tmp_path / "sheet.png", width=60, captions=["00000"])
    sheet = Image.open(tmp_path / "sheet.png").convert("L")
    assert sheet.size == (68, 64)
    assert sheet.crop((4, 4, 64, 20)).getextrema()[0] < 100


def test_an_empty_contact_sheet(tmp_path):
    with pytest.raises(InputError, match="no pictures"):
        contact_sheet([], tmp_path / "sheet.png")
    assert not list(tmp_path.iterdir())
