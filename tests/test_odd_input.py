"""Numbers of another kind or out of range, and edited JSON: one line each, never a traceback."""

import copy
import json
import math
import random
from collections import Counter
from dataclasses import asdict, fields, replace

import numpy as np
import pytest
from PIL import Image

from innerloop.errors import InputError
from innerloop_vos.agame import AGAMEOptions
from innerloop_vos.agame.training.settings import AGAMESettings
from innerloop_vos.configuration.options import read_options
from innerloop_vos.data.coco import CocoDataset
from innerloop_vos.data.youtube_vos import YouTubeVOSDataset
from innerloop_vos.distill.distillation import DistillationSettings
from innerloop_vos.eosvos import EOSVOSOptions
from innerloop_vos.eosvos.phases import PHASES
from innerloop_vos.lwl.options import LWLOptions
from innerloop_vos.lwl.training.stages import STAGES
from innerloop_vos.lwl_lite import LWLLiteOptions
from innerloop_vos.lwl_lite.training.settings import LWLLiteSettings
from innerloop_vos.methods.registry import parse_device
from innerloop_vos.rvos import ZeroShotOptions
from innerloop_vos.rvos.training.settings import RVOSSettings

SETTINGS = [
    DistillationSettings(),
    STAGES["1"],
    STAGES["2"],
    PHASES["meta"],
    LWLLiteSettings(),
    RVOSSettings(),
    AGAMESettings(),
]


def flat(options):
    """All settings by name, those of settings inside too."""
    found = {}
    for name, value in asdict(options).items():
        found |= value if isinstance(value, dict) else {name: value}
    return found


@pytest.mark.parametrize("options", [LWLOptions(), EOSVOSOptions()])
@pytest.mark.parametrize("value", ["nan", "1e400", "-1e400", str(10**30), "1,1e400", "x", "", "(("])
def test_options_of_another_kind_are_refused(options, value):
    for name, before in flat(options).items():
        if isinstance(before, str) and value:
            continue
        with pytest.raises(InputError, match=f"^option: .*{name}"):
            read_options([f"{name}={value}"], options)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (LWLOptions(), "squared_weights=3"),
        (LWLOptions(), "update_interval=1.5"),
        (LWLOptions(), "init_steps=True"),
        (LWLOptions(), "output=480"),
        (LWLOptions(), "output=1000000,1000000"),
        (LWLOptions(), "capacity=100000000"),
        (LWLLiteOptions(), "short_side=9000"),
        (AGAMEOptions(), "short_side=9000"),
        (AGAMEOptions(), "learning_rate=nan"),
        (LWLLiteOptions(), "half=1"),
        (LWLLiteOptions(), "min_area=1e30"),
        (LWLLiteOptions(), "first_weight=1.0"),
        (ZeroShotOptions(), "short_side=9000"),
        (ZeroShotOptions(), "objects=255"),
        (ZeroShotOptions(), "threshold=0.0"),
        (EOSVOSOptions(), "scale=0.8"),
        (EOSVOSOptions(), "scale=1,1e9"),
        (EOSVOSOptions(), "online_lags=1.5,2"),
        (EOSVOSOptions(), "seed=-5"),
        (EOSVOSOptions(), "copies=None"),
    ],
)
def test_options_out_of_range_are_refused(options, word):
    with pytest.raises(InputError, match=f"^option: .*{word.partition('=')[0]}"):
        read_options([word], options)


def test_good_options_still_pass():
    words = ["search_factor=2", "first_weight=None", "output=64,96", "half_cell_shift=False"]
    found = flat(read_options(words, LWLOptions()))
    wanted = {"search_factor": 2, "first_weight": None, "output": (64, 96)}
    wanted |= {"half_cell_shift": False}
    assert found == flat(LWLOptions()) | wanted
    assert read_options(["online_lags=3,", "scale=1,1.5"], EOSVOSOptions()).online_lags == (3,)


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 10**30, -1])
def test_settings_out_of_range_are_refused(settings, value):
    for field in fields(settings):
        before = getattr(settings, field.name)
        if type(before) not in (int, float) or (field.name == "clip" and value > 0):
            continue
        with pytest.raises(InputError, match=f"^{field.name} should be"):
            replace(settings, **{field.name: value})


@pytest.mark.parametrize("name", ["cuda:99", "cuda:-1", "meta", "cpu:-1", "x", ""])
def test_devices_that_are_not_there_are_refused(name):
    with pytest.raises(InputError, match=r"^device: .*cannot be used") as caught:
        parse_device(name)
    assert str(caught.value).isprintable()


def test_a_message_is_one_line_of_bounded_length():
    text = str(InputError("file\x1b[31m\nname " + "x" * 10**6 + " is damaged"))
    assert text.isprintable()
    assert len(text) < 1200
    assert text.startswith("file\\x1b[31m\\nname xxx")
    assert text.endswith(" is damaged")


ODD = [None, True, -1, 0, 3.5, 10**9, 10**30, math.nan, math.inf, "8", "../x", "a\nb", [], [[]], {}]


def edited(content, luck):
    """JSON of which one or two places, at any depth, hold something else or nothing."""
    content = copy.deepcopy(content)
    for _ in range(luck.randrange(1, 3)):
        place = content
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = luck.choice(keys)
            if isinstance(place[key], dict | list) and place[key] and luck.random() < 0.8:
                place = place[key]
                continue
            if luck.random() < 0.2:
                del place[key]
            else:
                place[key] = copy.deepcopy(luck.choice(ODD))
            break
    text = json.dumps(content)
    if luck.random() < 0.1:
        text = luck.choice([text[: len(text) // 2], "[" * 100_000, "null", "[]", "\0", '"x"'])
    return text


def test_edited_annotations(tmp_path):
    luck, counts = random.Random(0), Counter()
    file = tmp_path / "annotations" / "instances_train2017.json"
    for folder in (file.parent, tmp_path / "train2017"):
        folder.mkdir()
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(tmp_path / "train2017" / "a.jpg")
    shapes = [[[5, 5, 30, 5, 30, 30]], {"size": [40, 60], "counts": [100, 50, 2250]}]
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 40, "width": 60}],
        "annotations": [
            {"id": i, "image_id": 1, "iscrowd": 0, "segmentation": s} for i, s in enumerate(shapes)
        ],
    }
    for _ in range(300):
        file.write_text(edited(content, luck))
        try:
            labels = [clip.masks[0] for clip in CocoDataset(tmp_path)]
            assert all(label.shape == (40, 60) for label in labels)
            counts["read"] += 1
        except InputError:  # whose text is one line, see above
            counts["refused"] += 1
    print(f"\n300 edited COCO files: {dict(counts)}")
    assert counts["refused"] > 100


def test_edited_lists_of_sequences(tmp_path):
    luck, counts = random.Random(0), Counter()
    for part in ("JPEGImages", "Annotations"):
        (tmp_path / "train" / part / "a").mkdir(parents=True)
        image = Image.fromarray(np.zeros((40, 60), np.uint8))
        suffix = ".jpg" if part == "JPEGImages" else ".png"
        image.save(tmp_path / "train" / part / "a" / f"00000{suffix}")
    file = tmp_path / "train" / "meta.json"
    for _ in range(200):
        file.write_text(edited({"videos": {"a": {"objects": {"1": {"category": "x"}}}}}, luck))
        try:
            list(YouTubeVOSDataset(tmp_path))
            counts["read"] += 1
        except InputError:  # whose text is one line, see above
            counts["refused"] += 1
    print(f"\n200 edited lists: {dict(counts)}")
    assert counts["refused"] > 20
