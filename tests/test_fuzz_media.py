"""500 damaged images, masks and videos: one line each, or a sound result; nothing is written."""

import io
import os
import random
import signal
import struct
import time
import zlib
from collections import Counter
from functools import partial

import av
import numpy as np
import pytest
import torch
from PIL import Image
from test_fuzz_checkpoints import Watch

from innerloop.errors import InputError
from innerloop_vos.io.files import FRAME_FORMATS, read_image
from innerloop_vos.io.masks import PALETTE, read_mask
from innerloop_vos.io.video import open_frames

SLOWEST = 20  # seconds
SIZE = (32, 48)
IMAGES, MASKS, CLIPS, VIDEOS = 140, 130, 40, 150  # and the made ones

PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nreal.mp4\n#EXT-X-ENDLIST\n"
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(OWNED) (w) file closefile\nshowpage\n"
PSD = b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, 9, 9, 8, 3) + bytes(12) + bytes(2 + 3 * 81)
CONCAT = b"ffconcat version 1.0\nfile real.mp4\n"


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def pictures():
    """Sound images of every format, by name."""
    noise = np.random.default_rng(0).integers(0, 255, (*SIZE, 3), dtype=np.uint8)
    rgb, turned = Image.fromarray(noise), Image.Exif()
    turned[0x0112] = 6
    yield "a.jpg", encoded(rgb, "JPEG", exif=turned.tobytes())
    yield "b.jpg", encoded(rgb.convert("CMYK"), "JPEG", progressive=True)
    yield "a.png", encoded(rgb, "PNG")
    yield "b.png", encoded(rgb.convert("RGBA"), "PNG", exif=turned.tobytes())
    yield "a.bmp", encoded(rgb, "BMP")
    for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "jpeg"):
        yield f"{compression}.tif", encoded(rgb, "TIFF", compression=compression)
    yield "a.webp", encoded(rgb, "WEBP", lossless=True)
    yield "b.webp", encoded(rgb, "WEBP", exif=turned.tobytes())


def labels():
    """Sound masks of every kind, by name."""
    ids = np.zeros(SIZE, np.uint8)
    ids[4:20, 5:30], ids[15:30, 20:44] = 1, 2
    indexed, grey = Image.fromarray(ids), Image.fromarray(ids)
    indexed.putpalette(PALETTE.numpy().tobytes())
    yield "palette.png", encoded(indexed, "PNG")
    yield "transparent.png", encoded(indexed.convert("RGBA"), "PNG")
    yield "grey.png", encoded(grey, "PNG")
    yield "wide.png", encoded(Image.fromarray(ids.astype(np.uint16)), "PNG")
    yield "colour.bmp", encoded(indexed.convert("RGB"), "BMP")
    yield "bit.png", encoded(Image.fromarray(ids > 0), "PNG")
    yield "palette.tif", encoded(indexed, "TIFF", compression="tiff_lzw")
    yield "palette.gif", encoded(indexed, "GIF")
    yield "black.jpg", encoded(Image.fromarray(255 * (ids > 0).astype(np.uint8)), "JPEG")


def video(kind, codec, pixels="yuv420p"):
    file = io.BytesIO()
    with av.open(file, "w", format=kind) as container:
        stream = container.add_stream(codec, rate=12)
        stream.height, stream.width, stream.pix_fmt = *SIZE, pixels
        draw = np.random.default_rng(1)
        for _ in range(8):
            picture = draw.integers(0, 255, (*SIZE, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()


def videos():
    """Sound videos of every container, by name."""
    yield "a.mp4", video("mp4", "libx264")
    yield "a.mov", video("mov", "mpeg4")
    yield "a.mkv", video("matroska", "ffv1")
    yield "a.avi", video("avi", "mjpeg", "yuvj420p")
    yield "a.ts", video("mpegts", "mpeg2video")
    yield "a.gif", video("gif", "gif", "rgb8")
    yield "a.flv", video("flv", "flv")


def damaged(content, others, luck):
    """Cut, flipped, zeroed, enlarged, or with the head of another file."""
    content = bytearray(content)
    for _ in range(luck.choice((1, 1, 2, 4))):
        if not content:
            break
        # Headers are where damage is interesting.
        at = luck.choice((luck.randrange(len(content)), luck.randrange(min(len(content), 200))))
        length, kind = luck.randrange(1, 60), luck.randrange(8)
        if kind == 0:
            content[at] ^= 1 << luck.randrange(8)
        elif kind == 1:
            content[at : at + length] = luck.randbytes(length)
        elif kind == 2:
            content[at : at + length] = bytes(length)
        elif kind == 3:
            content[at : at + 4] = luck.choice((b"\xff\xff\xff\x7f", b"\xff" * 4, b"\0\0\0\x80"))
        elif kind == 4:
            del content[at : at + length]
        elif kind == 5:
            content[at : at + length] *= 2
        elif kind == 6:
            content[: luck.randrange(4, 64)] = luck.choice(others)[: luck.randrange(4, 64)]
        else:
            del content[at:]
    return bytes(content)


def chunk(kind, content):
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum


def png(width, height, *chunks, bits=8, colours=0):
    header = struct.pack(">IIBBBBB", width, height, bits, colours, 0, 0, 0)
    parts = (chunk(b"IHDR", header), *chunks, chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def made():
    """Files that are not damaged but made to do harm, by name."""
    zeros = zlib.compress(bytes(20_000_000), 9)
    pixels = chunk(b"IDAT", zeros)
    for side in (20_000, 2**16, 2**31 - 1):
        yield f"huge{side}.png", png(side, side, pixels)
    yield "wide.png", png(2**31 - 1, 1, pixels)
    yield "none.png", png(0, 0, pixels)
    yield "bomb.png", png(5_000, 5_000, chunk(b"IDAT", zlib.compress(bytes(25_010_000), 9)))
    yield "bits.png", png(64, 64, pixels, bits=3)
    yield "text.png", png(4, 4, chunk(b"zTXt", b"a\0\0" + zeros), pixels)
    yield "profile.png", png(4, 4, chunk(b"iCCP", b"a\0\0" + zeros), pixels)
    yield (
        "huge.bmp",
        b"BM" + struct.pack("<IIIIiiHHIIiiII", 99, 0, 54, 40, 30_000, 30_000, 1, 24, *[0] * 6),
    )
    yield "huge.gif", b"GIF89a" + struct.pack("<HHBBB", 65_535, 65_535, 0xF7, 0, 0) + bytes(800)
    yield (
        "huge.jpg",
        b"\xff\xd8\xff\xc0" + struct.pack(">HBHHB", 11, 8, 65_000, 65_000, 1) + b"\1\x11\0\xff\xd9",
    )
    yield "huge.webp", b"RIFF\x1a\0\0\0WEBPVP8L\x0d\0\0\0\x2f\xff\xff\xff\xff" + bytes(8)
    for suffix in ("jpg", "png", "mp4", "mkv", "gif"):
        yield f"empty.{suffix}", b""
        yield f"eps.{suffix}", EPS
        yield f"psd.{suffix}", PSD
        yield f"playlist.{suffix}", PLAYLIST
        yield f"concat.{suffix}", CONCAT


def read_frames(path):
    frames = open_frames(path)
    found = list(frames)
    assert len(found) == len(frames) == len(set(frames.names)) > 0
    for frame in found:
        assert (frame.shape, frame.dtype) == ((3, *frames.size), torch.uint8)
    return frames


def read_picture(path):
    image = read_image(path)
    assert image.format in FRAME_FORMATS
    image.convert("RGB") if image.mode in ("L", "P", "RGB", "RGBA") else None
    return image


def read_ids(path, **how):
    ids = read_mask(path, **how)
    assert (ids.ndim, ids.dtype) == (2, torch.uint8)
    assert not (ids == 255).any()
    return ids


READERS = {
    "image": read_picture,
    "mask": read_ids,
    "binary mask": partial(read_ids, binary=True),
    "video": read_frames,
    "frame": read_frames,
}


@pytest.fixture(scope="module")
def watch(tmp_path_factory):
    """Notes what is written; what imports is needed for sound files is done before."""
    Image.init()
    folder = tmp_path_factory.mktemp("sound")
    for what, samples in (("image", pictures()), ("binary mask", labels()), ("video", videos())):
        for name, content in samples:
            (folder / name).write_bytes(content)
            READERS[what](folder / name)
    return Watch()


def outcome(watch, what, path):
    """What reading a file does: nothing but return, or raise one line."""

    def ring(number, frame):
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(SLOWEST + 5)
    watch.seen, watch.on = [], True
    start = time.perf_counter()
    try:
        READERS[what](path)
        found, text = "read", ""
    except InputError as error:
        found, text = "refused", str(error)
    finally:
        watch.on = False
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert time.perf_counter() - start < SLOWEST
    assert text == "" or (text.isprintable() and len(text) < 1200)
    # Errors that compiled extensions raise have a frame of their own in the traceback.
    assert [event for event in watch.seen if event[1] != "b'_getframe()'"] == []
    return f"{what} {found}"


def check(watch, what, path, content):
    """Read a file of this content, alone in its folder; nothing else may be there after."""
    path.write_bytes(content)
    try:
        found = outcome(watch, what, path)
        assert path.read_bytes() == content
        assert len(list(path.parent.iterdir())) == 1
    except BaseException:
        print(f"{what}: {path.name} with {len(content)} bytes, {content[:120]!r}")
        raise
    finally:
        path.unlink()
    return found


@pytest.mark.parametrize(
    ("what", "samples", "count"),
    [
        ("image", pictures, IMAGES),
        ("mask", labels, MASKS // 2),
        ("binary mask", labels, MASKS // 2),
        ("video", videos, VIDEOS),
        ("frame", pictures, CLIPS),
    ],
)
def test_damaged_files(watch, tmp_path, monkeypatch, what, samples, count):
    monkeypatch.chdir(tmp_path)
    known = list(samples())
    contents = [content for _, content in known]
    luck, counts = random.Random(what), Counter()
    for index in range(count):
        name, content = known[index % len(known)]
        if luck.random() < 0.1:
            name = luck.choice(known)[0]  # an ending of another format
        counts[check(watch, what, tmp_path / name, damaged(content, contents, luck))] += 1
    print(dict(counts))
    assert counts[f"{what} refused"] > count // 4


def test_made_files(watch, tmp_path, monkeypatch):
    """Bombs, huge sizes, and what would open other files; a real one lies where they point."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "room").mkdir()
    counts = Counter()
    for name, content in made():
        for what in ("image", "mask", "video"):
            counts[check(watch, what, tmp_path / "room" / name, content)] += 1
    print(dict(counts))
    assert sum(counts.values()) > 100
    assert not list(tmp_path.rglob("OWNED*"))


@pytest.mark.parametrize("what", ["image", "mask", "video"])
@pytest.mark.parametrize("suffix", ["jpg", "png", "mp4"])
def test_what_is_no_regular_file(watch, tmp_path, what, suffix):
    places = [tmp_path / f"{kind}.{suffix}" for kind in ("pipe", "zeros", "nowhere", "circle")]
    os.mkfifo(places[0])
    for place, target in zip(places[1:], ("/dev/zero", tmp_path / "none", places[3]), strict=True):
        place.symlink_to(target)
    folder = tmp_path / f"folder.{suffix}"
    folder.mkdir()
    for place in (*places, folder):
        assert outcome(watch, what, place) == f"{what} refused"
    assert sorted(tmp_path.iterdir()) == sorted([*places, folder])
