"""The data sets of the papers, in the layouts that their authors distribute, with made clips."""

import json

from PIL import Image

from innerloop_vos.data import synthetic_clip
from innerloop_vos.io.masks import write_mask

SIZE = (64, 96)
LATE = 5


def write_davis2017(root, splits):
    """Clips of two objects: all masks, or of "test-dev" the first; the names by split."""
    for year, folder in (("2016", "480p"), ("2017", "2017")):
        (root / "ImageSets" / folder).mkdir(parents=True)
        for split, names in splits.items():
            listed = [_in_2016(name) for name in names] if year == "2016" else names
            (root / "ImageSets" / folder / f"{split}.txt").write_text("\n".join(listed) + "\n")
    seed = 0
    for split, names in splits.items():
        for name in names:
            seed += 1
            length = 10 if split == "train" else 4
            frames, masks = synthetic_clip(length, SIZE, objects=2, seed=seed)
            for kind in ("JPEGImages", "Annotations"):
                (root / kind / "480p" / name).mkdir(parents=True)
            for t, (frame, mask) in enumerate(zip(frames, masks, strict=True)):
                _save(frame, root / "JPEGImages" / "480p" / name / f"{t:05d}.jpg")
                if t == 0 or split != "test-dev":
                    write_mask(root / "Annotations" / "480p" / name / f"{t:05d}.png", mask)
    return root


def _in_2016(name):
    return f"/JPEGImages/480p/{name}/00000.jpg /Annotations/480p/{name}/00000.png"


def write_youtube_vos(root, split, clips, *, annotated, length=11):
    """Every fifth frame; the second object comes in at frame 5; categories by clip and object."""
    videos = {}
    for seed, (name, categories) in enumerate(clips.items(), start=10):
        frames, masks = synthetic_clip(length, SIZE, objects=len(categories), seed=seed)
        for kind in ("JPEGImages", "Annotations"):
            (root / split / kind / name).mkdir(parents=True)
        for t in range(0, length, 5):
            mask = masks[t] if t >= LATE else masks[t] * (masks[t] == 1)
            _save(frames[t], root / split / "JPEGImages" / name / f"{t:05d}.jpg")
            new = {0: 1, LATE: 2}.get(t)
            if annotated or str(new) in categories:
                given = mask if annotated else mask * (mask == new)
                write_mask(root / split / "Annotations" / name / f"{t:05d}.png", given)
        videos[name] = {"objects": {id_: {"category": c} for id_, c in categories.items()}}
    (root / split / "meta.json").write_text(json.dumps({"videos": videos}))
    return root


def write_coco2017(root, count=3):
    """Images of COCO's train2017 with one rectangle each."""
    (root / "annotations").mkdir(parents=True)
    (root / "train2017").mkdir()
    images, annotations = [], []
    for id_ in range(count):
        frames, _ = synthetic_clip(1, SIZE, objects=1, seed=30 + id_)
        _save(frames[0], root / "train2017" / f"{id_:012d}.jpg")
        images.append(
            {"id": id_, "file_name": f"{id_:012d}.jpg", "height": SIZE[0], "width": SIZE[1]}
        )
        shape = [[10, 10, 60, 10, 60, 50, 10, 50]]
        annotations.append({"id": id_, "image_id": id_, "segmentation": shape, "iscrowd": 0})
    path = root / "annotations" / "instances_train2017.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations}))
    return root


def write_all(root):
    """All that the papers are trained and measured on, by the options of `reproduce`."""
    splits = {"train": ["cat", "cow", "dog"], "val": ["goat"]}
    davis = write_davis2017(root / "DAVIS", splits)
    test_dev = write_davis2017(root / "DAVIS-test-dev", {"test-dev": ["hare"]})
    train = {"aaaaaaaaaa": {"1": "cat", "2": "dog"}, "bbbbbbbbbb": {"1": "cat"}}
    valid = {"cccccccccc": {"1": "cat", "2": "ape"}, "dddddddddd": {"1": "dog"}}
    for year in ("2018", "2019"):
        write_youtube_vos(root / year, "train", train, annotated=True, length=51)
        write_youtube_vos(root / year, "valid", valid, annotated=False)
    return {
        "davis": davis,
        "davis-test-dev": test_dev,
        "youtube-vos": root / "2019",
        "youtube-vos-2018": root / "2018",
        "coco": write_coco2017(root / "COCO"),
    }


def _save(frame, path):
    Image.fromarray(frame.permute(1, 2, 0).numpy()).save(path)
