import os
import struct

import av
import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torchvision.transforms.v2.functional import gaussian_blur

from innerloop.errors import InputError
from innerloop_vos.io.video import open_frames, write_video


def picture(seed, size=(48, 64)):
    noise = torch.rand(3, *size, generator=torch.Generator().manual_seed(seed))
    return (255 * gaussian_blur(noise, [9, 9])).to(torch.uint8)


def save(path, frame):
    Image.fromarray(frame.permute(1, 2, 0).numpy()).save(path)


def encode(path, codec="libx264", count=24, **options):
    """Write frames as another program would, with neither our writer nor its defaults."""
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=12, options={"g": "8"})
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for index in range(count):
            image = picture(index).permute(1, 2, 0).numpy()
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image))))
        container.mux(stream.encode())
    return path


def cut(path, fraction):
    """Drop the end of a file."""
    data = path.read_bytes()
    path.write_bytes(data[: int(fraction * len(data))])
    return path


# --- images -----------------------------------------------------------------------------------


def test_a_folder_of_images(tmp_path):
    for index in range(3):
        save(tmp_path / f"{index:05d}.png", picture(index))
    (tmp_path / "notes.txt").write_text("no frame")
    (tmp_path / "._00000.png").write_bytes(b"no frame either")
    frames = open_frames(tmp_path)
    assert len(frames) == 3
    assert frames.names == ["00000", "00001", "00002"]
    assert frames.size == (48, 64)
    assert frames.rate == 24
    assert frames[1].dtype == torch.uint8
    for index, frame in enumerate(frames):
        assert torch.equal(frame, picture(index))
    assert torch.equal(frames[-1], picture(2))
    assert [torch.equal(frame, picture(i)) for i, frame in enumerate(frames[:2])] == [True, True]
    with pytest.raises(IndexError):
        frames[3]


def test_names_are_in_natural_order(tmp_path):
    for index in (10, 9, 2):
        save(tmp_path / f"frame{index}.jpg", picture(index))
    assert open_frames(tmp_path).names == ["frame2", "frame9", "frame10"]


def test_a_glob(tmp_path):
    for name in ("a1.png", "a2.png", "b1.png"):
        save(tmp_path / name, picture(0))
    assert open_frames(f"{tmp_path}/a*.png").names == ["a1", "a2"]
    with pytest.raises(InputError, match="no file matches"):
        open_frames(f"{tmp_path}/c*.png")
    (tmp_path / "a3.txt").write_text("text")
    with pytest.raises(InputError, match=r"a3\.txt, which is not a JPEG"):
        open_frames(f"{tmp_path}/a*")


def test_a_folder_whose_name_looks_like_a_glob(tmp_path):
    folder = tmp_path / "clip [1]"
    folder.mkdir()
    save(folder / "0.png", picture(0))
    assert len(open_frames(folder)) == 1


def test_one_image_is_a_clip_of_one_frame(tmp_path):
    save(tmp_path / "frame.png", picture(0))
    assert open_frames(tmp_path / "frame.png").names == ["frame"]


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "LA"])
def test_every_image_becomes_rgb(tmp_path, mode):
    Image.fromarray(picture(0).permute(1, 2, 0).numpy()).convert(mode).save(tmp_path / "0.png")
    assert open_frames(tmp_path)[0].shape == (3, 48, 64)


def test_nothing_there(tmp_path):
    with pytest.raises(InputError, match="holds no JPEG, PNG"):
        open_frames(tmp_path)
    with pytest.raises(InputError, match="no such folder, video or image"):
        open_frames(tmp_path / "absent")


def test_mixed_sizes_are_found_without_decoding(tmp_path):
    save(tmp_path / "0.png", picture(0))
    save(tmp_path / "1.png", picture(0, size=(48, 60)))
    cut(tmp_path / "1.png", 0.5)
    with pytest.raises(InputError) as caught:
        open_frames(tmp_path)
    for part in ("0.png", "64x48", "1.png", "60x48"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("names", "missing"),
    [
        (["00000", "00002"], "00001.png"),
        (["00000", "00002", "00003"], "00001.png"),
        (["img_008", "img_009", "img_012"], "img_010.png"),
        (["00000", "00005", "00010", "00020"], "00015.png"),
    ],
)
def test_a_gap_in_the_numbering_is_warned_of(tmp_path, names, missing):
    for name in names:
        save(tmp_path / f"{name}.png", picture(0))
    with pytest.warns(UserWarning, match=f"{missing} may be missing"):
        assert open_frames(tmp_path).names == names


@pytest.mark.parametrize(
    "names",
    [
        ["00003", "00004", "00005"],
        ["00000", "00005", "00010"],  # as in YouTube-VOS
        ["098", "099", "100"],
        ["1403636579", "1403636799", "1403637001"],  # time stamps
        ["a", "b", "d"],
    ],
)
def test_numberings_without_a_gap(tmp_path, names):
    for name in names:
        save(tmp_path / f"{name}.png", picture(0))
    assert open_frames(tmp_path).names == names


def test_frames_that_share_a_name(tmp_path):
    save(tmp_path / "0.png", picture(0))
    save(tmp_path / "0.jpg", picture(0))
    with pytest.raises(InputError, match="share the name 0"):
        open_frames(tmp_path)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_corrupt_images_are_named(tmp_path, suffix):
    for index in range(2):
        save(tmp_path / f"{index}.{suffix}", picture(index))
    cut(tmp_path / f"1.{suffix}", 0.6)
    frames = open_frames(tmp_path)
    assert frames[0].shape == (3, 48, 64)
    with pytest.raises(InputError, match=rf"1\.{suffix}"):
        frames[1]
    (tmp_path / f"1.{suffix}").write_bytes(b"text")
    with pytest.raises(InputError, match=rf"1\.{suffix}"):
        open_frames(tmp_path)


def test_sixteen_bit_frames_are_refused(tmp_path):
    Image.fromarray(np.zeros((3, 4), dtype=np.uint16)).save(tmp_path / "0.png")
    with pytest.raises(InputError, match="mode I;16"):
        open_frames(tmp_path)[0]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_images_are_turned_as_viewers_turn_them(tmp_path, suffix, orientation):
    path = tmp_path / f"0.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(picture(0).permute(1, 2, 0).numpy()).save(path, exif=exif)
    frames = open_frames(path)
    with Image.open(path) as image:
        expected = torch.from_numpy(np.array(ImageOps.exif_transpose(image))).permute(2, 0, 1)
    assert frames.size == tuple(expected.shape[1:])
    assert torch.equal(frames[0], expected)


@pytest.mark.parametrize("suffix", ["bmp", "tif", "tiff", "webp", "jpeg"])
def test_other_formats_of_frames(tmp_path, suffix):
    for index in range(2):
        save(tmp_path / f"{index}.{suffix}", picture(index))
    assert len(open_frames(tmp_path)) == len(open_frames(f"{tmp_path}/*.{suffix}")) == 2


@pytest.mark.parametrize("kind", ["eps", "gif", "ppm"])
def test_images_are_decoded_only_as_what_frames_may_be(tmp_path, kind):
    image = Image.fromarray(picture(0).permute(1, 2, 0).numpy())
    image.save(tmp_path / "0.jpg", format=kind)
    with pytest.raises(InputError, match="not a readable image"):
        open_frames(tmp_path)


def test_a_mask_among_the_frames_is_left_out(tmp_path):
    for name in ("00000", "00001", "mask"):
        save(tmp_path / f"{name}.png", picture(0))
    with pytest.raises(
        InputError, match=r"holds mask\.png among frames that are named differently"
    ):
        open_frames(tmp_path)
    for source in (tmp_path, f"{tmp_path}/*.png"):
        assert open_frames(source, without=[tmp_path / "mask.png"]).names == ["00000", "00001"]


@pytest.mark.parametrize("name", ["00001.png", "00001.mp4"])
def test_pipes_and_devices_are_not_opened(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(InputError, match="is a pipe"):
        open_frames(tmp_path / name)
    os.remove(tmp_path / name)
    os.symlink("/dev/zero", tmp_path / name)
    with pytest.raises(InputError, match="is a device"):
        open_frames(tmp_path / name)


# --- videos -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(48, 64), (47, 63)])
def test_videos_read_back_as_written(tmp_path, size):
    path = tmp_path / "clip.mp4"
    write_video(path, (picture(seed, size) for seed in range(5)), rate=23.976)
    frames = open_frames(path)
    assert len(frames) == 5
    assert frames.names[-1] == "00004"
    assert frames.size == (48, 64)
    assert frames.rate == pytest.approx(23.976)
    for index, frame in enumerate(frames):
        assert frame.shape == (3, 48, 64)
        error = frame[:, : size[0], : size[1]].float() - picture(index, size).float()
        assert error.abs().mean() < 6  # of 255: the colour is subsampled
    assert [file.name for file in tmp_path.iterdir()] == ["clip.mp4"]


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("clip.mp4", "libx264"),
        ("clip.mkv", "libx264"),
        ("clip.ts", "libx264"),
        ("clip.avi", "mpeg4"),
        ("clip.webm", "libvpx-vp9"),
    ],
)
def test_any_order_gives_the_same_frames(tmp_path, name, codec):
    frames = open_frames(encode(tmp_path / name, codec))
    assert frames.rate == 12
    in_order = list(frames)
    assert len(in_order) == len(frames) == 24
    for index in (5, 6, 6, 23, 0, 0, 9, -1):
        assert torch.equal(frames[index], in_order[index])


def test_a_video_is_turned_upright(tmp_path):
    path = tmp_path / "clip.mp4"
    image = torch.zeros(3, 48, 64, dtype=torch.uint8)
    image[:, :24, :32] = 255  # top left
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=12)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        stream.set_display_rotation(-90)  # clockwise
        array = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
        container.mux(stream.encode(av.VideoFrame.from_ndarray(array)))
        container.mux(stream.encode())
    frames = open_frames(path)
    assert frames.size == (64, 48)
    expected = image.rot90(-1, dims=(1, 2)).float()
    assert (frames[0].float() - expected).abs().mean() < 6
    assert expected[0, 5, 40] == 255  # top right


@pytest.mark.parametrize(
    ("matrix", "turned"),
    [
        ((-1, 0, 0, 1), lambda image: image.flip(2)),
        ((1, 0, 0, -1), lambda image: image.flip(1)),
        ((-1, 0, 0, -1), lambda image: image.flip(1, 2)),
        ((0, 1, -1, 0), lambda image: image.rot90(-1, dims=(1, 2))),
        ((0, -1, 1, 0), lambda image: image.rot90(1, dims=(1, 2))),
        ((0, 1, 1, 0), lambda image: image.transpose(1, 2)),
        ((0.9994, 0.0349, -0.0349, 0.9994), lambda image: image),  # two degrees
    ],
)
def test_a_video_is_shown_as_its_matrix_says(tmp_path, matrix, turned):
    plain = open_frames(encode(tmp_path / "plain.mp4", count=2))[0]
    data = bytearray(encode(tmp_path / "clip.mp4", count=2).read_bytes())
    identity = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    a, b, c, d = (round(value * (1 << 16)) for value in matrix)
    at = data.rindex(identity)  # that of the track; the one before is of the movie
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    (tmp_path / "clip.mp4").write_bytes(data)
    frames = open_frames(tmp_path / "clip.mp4")
    assert frames.size == tuple(turned(plain).shape[1:])
    assert torch.equal(frames[0], turned(plain))


def test_a_playlist_opens_nothing(tmp_path):
    encode(tmp_path / "real.mp4", count=2)
    lists = {
        "hls.mp4": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nreal.mp4\n#EXT-X-ENDLIST\n",
        "concat.mp4": "ffconcat version 1.0\nfile real.mp4\n",
    }
    for name, text in lists.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(InputError, match="cannot be decoded"):
            open_frames(tmp_path / name)


@pytest.mark.parametrize("fraction", [0.3, 0.9, 0.96])
@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("clip.mp4", "libx264", {}),
        ("clip.mp4", "libx264", {"movflags": "faststart"}),  # the header comes first
        ("clip.mp4", "libx264", {"movflags": "frag_keyframe+empty_moov"}),
        ("clip.mkv", "libx264", {}),
        ("clip.webm", "libvpx-vp9", {}),
    ],
)
def test_a_video_cut_short_is_refused(tmp_path, name, codec, options, fraction):
    path = cut(encode(tmp_path / name, codec, **options), fraction)
    with pytest.raises(InputError, match=r"cut short|damaged") as caught:
        open_frames(path)
    assert str(path) in str(caught.value)


def test_a_damaged_video_is_refused(tmp_path):
    path = encode(tmp_path / "clip.mp4", movflags="faststart")
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 400] = np.random.default_rng(0).bytes(400)
    path.write_bytes(data)
    with pytest.raises(InputError, match="damaged"):
        open_frames(path)


@pytest.mark.parametrize(
    ("name", "codec", "tag"), [("a.avi", "mpeg4", b"FMP4"), ("a.mp4", "libx264", b"avc1")]
)
def test_an_unknown_codec_is_named(tmp_path, name, codec, tag):
    path = tmp_path / name
    encode(path, codec)
    path.write_bytes(path.read_bytes().replace(tag, b"ZQZQ"))
    with pytest.raises(InputError, match=f"video .*{name} is of an unknown codec"):
        open_frames(path)


def test_a_trimmed_video_is_whole(tmp_path):
    path = encode(tmp_path / "clip.mp4")
    data = bytearray(path.read_bytes())
    entry = data.index(b"elst") + 12  # the edit list: version, count, duration, start
    duration = int.from_bytes(data[entry : entry + 4], "big")
    data[entry : entry + 4] = (duration // 2).to_bytes(4, "big")
    path.write_bytes(data)
    assert len(open_frames(path)) == 12


def test_files_that_are_no_video(tmp_path):
    (tmp_path / "clip.mp4").write_text("text")
    with pytest.raises(InputError, match=r"clip\.mp4 cannot be decoded"):
        open_frames(tmp_path / "clip.mp4")
    with av.open(str(tmp_path / "sound.mkv"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(InputError, match=r"sound\.mkv holds no video"):
        open_frames(tmp_path / "sound.mkv")


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([], "no frames"),
        ([picture(0), picture(0, (48, 62))], "one size"),
        ([picture(0).float()], "float32"),
        ([picture(0)[None]], r"\(1, 3, 48, 64\)"),
    ],
)
def test_a_failed_write_leaves_nothing(tmp_path, frames, message):
    with pytest.raises(InputError, match=message):
        write_video(tmp_path / "clip.mp4", frames, rate=24)
    assert not list(tmp_path.iterdir())


def test_places_that_cannot_be_written(tmp_path):
    with pytest.raises(InputError, match="cannot write"):
        write_video(tmp_path / "absent" / "clip.mp4", [picture(0)], rate=24)
    with pytest.raises(InputError, match=r"end in one of \.mp4"):
        write_video(tmp_path / "clip.txt", [picture(0)], rate=24)
