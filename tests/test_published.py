"""The figures of published systems: consistent, on the page, and those that can be made again."""

import copy
import json
import tomllib
from pathlib import Path

import pytest
from shared import SHARED, needs_shared

from benchmarks.reproduce.site_means import means
from innerloop_vos import published
from innerloop_vos.published import read_published
from innerloop_vos.published.page import page
from innerloop_vos.published.reading import parse

ROOT = Path(__file__).parents[1]
FILE = Path(published.__file__).with_name("systems.toml")
CONTENT = tomllib.loads(FILE.read_text())


def test_the_page_is_that_of_the_data():
    assert (ROOT / "docs/published.md").read_text() == page(read_published())


def test_the_splits_are_those_of_davis():
    (val,), (seven,), (val2017,) = (
        [split.sequences for split in read_published().splits if (split.dataset, split.name) == of]
        for of in (("davis2016", "val"), ("davis2016", "seven of val"), ("davis2017", "val"))
    )
    assert (len(val), len(seven), len(val2017)) == (20, 7, 30)
    assert seven < val < val2017


def test_a_result_is_read_with_its_source():
    references = read_published().references("davis2017", read_published().splits[2].sequences)
    found = {(each.name, each.source): each for each in references}
    ours = found["LWL, additional data", "lwl"]
    assert ours.system.methods == ("lwl", "lwl-lite")
    assert ours.figures == {"J&F": 81.6, "J": 79.1, "F": 84.1}
    assert found["STM, additional data", "lwl"].overall == 81.8
    assert found["STM", "e-osvos"].overall == 81.7  # sources differ, both are kept
    assert found["VideoMatch", "a-game"].overall is None


def test_speeds_are_frames_per_second():
    val = read_published().splits[0]
    references = read_published().references(val.dataset, val.sequences)
    speeds = {(each.name, each.source): each.speed for each in references}
    assert speeds["OSVOS-S", "a-game"] == pytest.approx(1 / 4.5)
    assert speeds["RANet", "e-osvos"] == 30.3
    assert speeds["CINM", "a-game"] is None


def test_other_sequences_have_no_references():
    published = read_published()
    val = published.splits[0].sequences
    for dataset, sequences in (("davis2016", val - {"bmx-trees"}), ("davis2017", val)):
        assert published.references(dataset, sequences) == []
    assert published.references("davis2016", []) == []


def test_figures_that_reproduce_has_too_are_the_same():
    """The figures of Table 3 of LWL and Table 2 of e-OSVOS were typed twice, from the papers."""
    printed = {
        (each.source, each.split.dataset, each.split.name, each.name): each.figures
        for each in read_published().results
    }
    folder = ROOT / "innerloop_vos/reproduce/tables"
    compared = 0
    names = {"additional data": "LWL, additional data", "only DAVIS 2017": "LWL"}
    for source, name in (("e-osvos", "table2"), ("lwl", "table3")):
        table = tomllib.loads((folder / f"{source}-{name}.toml").read_text())
        for row in table["rows"]:
            paper = row["paper"]
            paper = paper if isinstance(paper, dict) else {"davis2017": paper}
            system = names.get(row["name"], row["name"]).replace("SiamRCNN", "Siam R-CNN")
            system += "" if source == "e-osvos" or "data" in system else ", only DAVIS 2017"
            for measure, values in paper.items():
                dataset, _, split = measure.partition("-")
                columns = [column for column in table["columns"][measure] if column != "FPS"]
                expected = dict(zip(columns, values, strict=False))
                expected = {key: value for key, value in expected.items() if value != ""}
                assert printed[source, dataset, split or "val", system] == expected
                compared += 1
    assert compared == 18 + 18 + 14 + 13


@needs_shared
def test_means_of_the_site_are_those_of_its_frames():
    path = SHARED / "data/DAVIS2016_results/per_frame.json"
    per_frame = json.loads(path.read_text())
    names = {"agame": "A-GAME", "lucid": "Lucid", "onavos": "OnAVOS", "cosnet": "COSNet"}
    names |= {"osvos": "OSVOS", "stm": "STM"}
    of_site = {each.name: each for each in read_published().results if each.source == "site"}
    assert of_site.keys() == {names[system] for system in per_frame}
    for system, sequences in per_frame.items():
        assert of_site[names[system]].figures == means(sequences)
        assert of_site[names[system]].split.sequences == sequences.keys()


def test_means_count_sequences_alike():
    frames = {"a": {"J": [1.0] * 8, "F": [0.5] * 8}, "b": {"J": [0.0] * 4, "F": [0.5] * 4}}
    expected = {"J&F": 50.0, "J": 50.0, "J recall": 50.0, "F": 50.0, "F recall": 0.0}
    assert means(frames) == expected | {"J decay": 0.0, "F decay": 0.0}


def spoilt(change):
    content = copy.deepcopy(CONTENT)
    change(content)
    return content


def no_figures_of(content):
    content["systems"].append({"name": "New"})


def named_twice(content):
    content["systems"][0]["also"].append("STM")


def unknown_system(content):
    content["tables"][0]["rows"][0][0] = "New"


def unknown_source(content):
    content["tables"][0]["source"] = "hearsay"


def unknown_split(content):
    content["tables"][0]["split"] = "train"


def unknown_column(content):
    content["tables"][0]["columns"][-1] = "IoU"


def unknown_task(content):
    content["tables"][0]["task"] = "video"


def short_row(content):
    content["tables"][0]["rows"][0].pop()


def wrong_mean(content):
    content["tables"][0]["rows"][0][-1] += 1


def above_one_hundred(content):
    content["tables"][1]["rows"][0][2] = 824


def no_speed(content):
    content["tables"][1]["rows"][0][-1] = 0


def nothing_printed(content):
    content["tables"][-1]["rows"][0][1:] = ["", ""]


def note_on_nobody(content):
    content["tables"][0]["notes"]["STM"] = "not in this table"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (no_figures_of, "New: no table has figures"),
        (named_twice, "STM is named twice"),
        (unknown_system, "a-game, Table 4, New: the system is unknown"),
        (unknown_source, "hearsay, Table 4: the source is unknown"),
        (unknown_split, "davis2016 has no split 'train'"),
        (unknown_column, "unknown columns .'IoU'"),
        (unknown_task, "task 'video', should be one of"),
        (short_row, "does not fit"),
        (wrong_mean, "OnAVOS: J&F is not 86.0"),
        (above_one_hundred, "FAVOS: J 824"),
        (no_speed, "FAVOS: speed 0"),
        (nothing_printed, "there is no figure"),
        (note_on_nobody, "notes on .'STM'"),
    ],
)
def test_contradictions_are_found(change, message):
    assert parse(CONTENT)
    with pytest.raises(ValueError, match=message):
        parse(spoilt(change))
