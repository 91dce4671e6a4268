import numpy as np
import pytest
import torch
from PIL import Image
from shared import SHARED, needs_shared

from innerloop.errors import InputError
from innerloop_vos import masks, video
from innerloop_vos.io.masks import (
    PALETTE,
    box_to_mask,
    check_mask,
    describe,
    parse_box,
    read_mask,
    write_mask,
)

IDS = torch.tensor([[0, 1, 1, 0], [0, 2, 2, 0], [0, 9, 0, 0]], dtype=torch.uint8)
BINARY = (IDS > 0).to(torch.uint8)


def save(path, array, mode=None):
    image = Image.fromarray(np.asarray(array, dtype=np.uint8))
    (image if mode is None else image.convert(mode)).save(path)
    return path


def test_palette_is_that_of_voc():
    expected = [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128], [128, 0, 128]]
    assert PALETTE[:6].tolist() == expected
    assert PALETTE[255].tolist() == [224, 224, 192]
    assert len({tuple(colour) for colour in PALETTE.tolist()}) == 256


def test_written_masks_read_back_and_carry_the_palette(tmp_path):
    labels = torch.arange(255, dtype=torch.uint8).view(15, 17)
    write_mask(tmp_path / "mask.png", labels)
    assert torch.equal(read_mask(tmp_path / "mask.png"), labels)
    image = Image.open(tmp_path / "mask.png")
    assert image.mode == "P"
    assert image.getpalette() == PALETTE.flatten().tolist()
    assert [path.name for path in tmp_path.iterdir()] == ["mask.png"]


@pytest.mark.parametrize("level", [1, 255])
@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_two_levels_are_background_and_object_1(tmp_path, level, mode):
    path = save(tmp_path / "mask.png", BINARY * level, mode)
    assert torch.equal(read_mask(path), BINARY)


def test_one_bit(tmp_path):
    path = save(tmp_path / "mask.png", BINARY * 255, "1")
    assert torch.equal(read_mask(path), BINARY)


def test_black_and_white_with_a_palette(tmp_path):
    path = save(tmp_path / "mask.png", BINARY * 255, "P")
    assert torch.equal(read_mask(path), BINARY)


@pytest.mark.parametrize("ids", [IDS, IDS * 0])
def test_void_is_background(tmp_path, ids):
    with_void = ids.clone()
    with_void[2, 2:] = 255
    image = Image.fromarray(with_void.numpy())
    image.putpalette(PALETTE.numpy().tobytes())
    image.save(tmp_path / "index.png")
    image.convert("RGB").save(tmp_path / "colour.png")
    for name in ("index.png", "colour.png"):
        assert torch.equal(read_mask(tmp_path / name), ids)


def test_void_beside_ids_in_another_palette(tmp_path):
    image = Image.fromarray(np.array([[0, 1, 255]], dtype=np.uint8))
    image.putpalette([0, 0, 0, 236, 95, 103, *[9] * 759, 255, 255, 255])
    image.save(tmp_path / "mask.png")
    assert read_mask(tmp_path / "mask.png").tolist() == [[0, 1, 0]]
    # Under a palette of greys the index is a grey value, and 255 may be the object.
    with pytest.raises(InputError, match="0, 1, 255"):
        read_mask(save(tmp_path / "grey.png", [[0, 1, 255]], "P"))


def test_small_greys_are_ids(tmp_path):
    assert torch.equal(read_mask(save(tmp_path / "mask.png", IDS)), IDS)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_colours_of_the_palette_are_ids(tmp_path, mode):
    path = save(tmp_path / "mask.png", PALETTE[IDS.long()], mode)
    assert torch.equal(read_mask(path), IDS)


def test_the_other_shade_that_davis_tools_write(tmp_path):
    colours = PALETTE[IDS.long()].clone()
    colours[colours == 192] = 191
    assert torch.equal(read_mask(save(tmp_path / "mask.png", colours)), IDS)


def test_transparent_pixels_are_background(tmp_path):
    white = np.full(BINARY.shape, 255)
    path = save(tmp_path / "mask.png", np.stack([white, BINARY * 255], axis=-1))
    assert torch.equal(read_mask(path), BINARY)


def test_empty_masks_are_read(tmp_path):
    assert not read_mask(save(tmp_path / "mask.png", np.zeros((3, 4)))).any()


@pytest.mark.parametrize(
    ("array", "message"),
    [
        ([[0, 100, 200]], "0, 100, 200"),
        (np.arange(256)[None], r"0, 1, 2, .* \(256 different\)"),
        ([[0, 1, 255]], "0, 1, 255"),
        ([[[0, 0, 0], [10, 20, 30]]], "#0a141e"),
        ([[[255, 0], [255, 128]]], "partly transparent"),
    ],
)
def test_ambiguous_values_are_named(tmp_path, array, message):
    path = save(tmp_path / "mask.png", array)
    with pytest.raises(InputError, match=message) as caught:
        read_mask(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
def test_wide_greys_that_hold_small_ids(tmp_path, dtype):
    Image.fromarray(IDS.numpy().astype(dtype)).save(tmp_path / "mask.tif")
    assert torch.equal(read_mask(tmp_path / "mask.tif"), IDS)
    Image.fromarray(IDS.numpy().astype(dtype) * 1000).save(tmp_path / "mask.tif")
    with pytest.raises(InputError, match="do not say which object"):
        read_mask(tmp_path / "mask.tif")


DISK = ((np.mgrid[:96, :160] - np.array([48, 60])[:, None, None]) ** 2).sum(0) < 18**2


def spoiled(path, kind):
    """A disk with edges that a lossy format or interpolation made, and no void."""
    disk = Image.fromarray(DISK.astype(np.uint8) * 20)
    if kind == "jpeg":
        disk.save(path.with_suffix(".jpg"), quality=90)
        return path.with_suffix(".jpg")
    if kind == "resampled":
        disk.resize((240, 144), Image.Resampling.BILINEAR).save(path)
    elif kind == "soft":
        Image.fromarray(np.linspace(0, 255, 15360).reshape(96, 160).astype(np.uint8)).save(path)
    elif kind == "shades":
        red = np.stack([np.asarray(disk.resize((240, 144), Image.Resampling.BILINEAR)) * 12] * 3)
        red[1:] = 0
        Image.fromarray(red.transpose(1, 2, 0)).convert("P", palette=Image.Palette.ADAPTIVE).save(
            path
        )
    return path


@pytest.mark.parametrize("kind", ["jpeg", "resampled", "soft", "shades"])
def test_noise_and_soft_edges_are_no_objects(tmp_path, kind):
    path = spoiled(tmp_path / "mask.png", kind)
    with pytest.raises(InputError, match="--threshold 127"):
        read_mask(path)
    for given in ({"threshold": 9}, {"binary": True}):
        assert read_mask(path, **given).unique().tolist() == [0, 1]


def test_a_threshold_is_the_brightness_above_which_the_object_lies(tmp_path):
    path = save(tmp_path / "mask.png", [[0, 100, 101, 255]])
    assert read_mask(path, threshold=100).tolist() == [[0, 0, 1, 1]]
    assert read_mask(path, binary=True).tolist() == [[0, 1, 1, 1]]
    with pytest.raises(InputError, match="threshold: 255"):
        read_mask(path, threshold=255)


@pytest.mark.parametrize("suffix", ["gif", "png", "bmp", "tif"])
def test_formats_of_masks(tmp_path, suffix):
    path = save(tmp_path / f"mask.{suffix}", DISK * 255)
    assert torch.equal(read_mask(path), torch.from_numpy(DISK).byte())


def test_palettes_whose_index_0_is_no_background(tmp_path):
    image = Image.fromarray(1 - DISK.astype(np.uint8))
    image.putpalette([255, 0, 0, 0, 0, 0])
    image.save(tmp_path / "mask.png")
    with pytest.raises(InputError, match="index 0 should be black"):
        read_mask(tmp_path / "mask.png")
    assert torch.equal(read_mask(tmp_path / "mask.png", binary=True), torch.from_numpy(DISK).byte())


def test_other_palettes_with_a_black_background(tmp_path):
    image = Image.fromarray(IDS.numpy())
    image.putpalette([0, 0, 0, 236, 95, 103, 249, 145, 87, *[9] * 18, 250, 200, 99])
    image.save(tmp_path / "mask.png")
    assert torch.equal(read_mask(tmp_path / "mask.png"), IDS)


def test_what_a_mask_holds_is_said():
    labels = torch.zeros(50, 50, dtype=torch.uint8)
    labels[:30, :40] = 1
    assert describe(labels) == "1 object: 1 (1,200 pixels)"
    labels[40:, :3] = 7
    assert describe(labels) == "2 objects: 1 (1,200 pixels), 7 (30)"


def test_unreadable_files_are_named(tmp_path):
    good = save(tmp_path / "good.png", np.random.default_rng(0).integers(0, 2, (64, 64)))
    data = good.read_bytes()
    cases = {
        "cut.png": data[: len(data) // 2],
        "flipped.png": data[:60] + bytes([data[60] ^ 255]) + data[61:],
        "text.png": b"no image",
        "empty.png": b"",
    }
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=name):
            read_mask(tmp_path / name)
    with pytest.raises(InputError, match=r"no such image.*absent\.png"):
        read_mask(tmp_path / "absent.png")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.zeros(3, 4), "float32"),
        (torch.zeros(1, 3, 4, dtype=torch.uint8), r"\(1, 3, 4\)"),
        (torch.full((3, 4), 255, dtype=torch.uint8), "255"),
    ],
)
def test_only_maps_of_ids_are_written(tmp_path, labels, message):
    with pytest.raises(InputError, match=message):
        write_mask(tmp_path / "mask.png", labels)
    assert not list(tmp_path.iterdir())


def test_check_mask():
    check_mask(IDS, (3, 4))
    with pytest.raises(InputError, match=r"first\.png is 4x3 pixels .* frame is 4x5"):
        check_mask(IDS, (5, 4), "first.png")
    with pytest.raises(InputError, match=r"first\.png is empty"):
        check_mask(torch.zeros_like(IDS), (3, 4), "first.png")


def test_boxes():
    assert parse_box("3,0,2,4") == (3, 0, 2, 4)
    mask = box_to_mask((3, 0, 2, 4), (4, 5))
    assert mask.dtype == torch.uint8
    assert mask.nonzero().tolist() == [[y, x] for y in range(4) for x in (3, 4)]


@pytest.mark.parametrize("text", ["", "1,2,3", "1,2,3,4,5", "1,2,3,x", "1.5,2,3,4"])
def test_malformed_boxes(text):
    with pytest.raises(InputError, match="X,Y,W,H"):
        parse_box(text)


@pytest.mark.parametrize("box", [(3, 0, 3, 4), (3, 0, 2, 5), (-1, 0, 2, 2), (0, -1, 2, 2)])
def test_boxes_outside_the_frame(box):
    with pytest.raises(InputError, match="inside the frame, which is 5x4"):
        box_to_mask(box, (4, 5))


@pytest.mark.parametrize("box", [(0, 0, 0, 2), (0, 0, 2, 0), (2, 2, -1, 1)])
def test_boxes_without_area(box):
    with pytest.raises(InputError, match="no area"):
        box_to_mask(box, (4, 5))


@needs_shared
def test_grey_and_alpha_of_davis():
    folder = SHARED / "data/DAVIS2016/Annotations/480p/bear"
    assert Image.open(folder / "00077.png").mode == "LA"
    grey_alpha, grey = read_mask(folder / "00077.png"), read_mask(folder / "00076.png")
    assert grey_alpha.unique().tolist() == [0, 1]
    changed = (grey_alpha != grey).sum() / grey.sum()
    assert changed < 0.15


@needs_shared
@pytest.mark.parametrize("method", ["osvos", "agame", "stm"])
def test_published_results(method):
    path = SHARED / "data/DAVIS2016_results" / method / "libby/00003.png"
    mask = read_mask(path)
    assert mask.shape == (480, 854)
    assert mask.unique().tolist() == [0, 1]


def test_short_names_are_the_same_functions():
    assert masks.read_mask is read_mask
    assert video.open_frames.__module__ == "innerloop_vos.io.video"
