"""2,000 damaged checkpoints and 300 damaged weight files: one line each or a sound result."""

import copy
import json
import random
import resource
import sys
import time
from collections import Counter

import pytest
import torch
from lwl_tiny import tiny_lwl
from safetensors.torch import save
from test_checkpoint_formats import DTYPES, contents

from innerloop.errors import InputError
from innerloop_vos.agame import agame, save_agame
from innerloop_vos.eosvos import eosvos_mobilenet_v2, load_eosvos, save_eosvos
from innerloop_vos.eosvos.finetuning import initial_rates
from innerloop_vos.lwl import load_lwl, save_lwl
from innerloop_vos.lwl_lite import lwl_lite, save_lwl_lite
from innerloop_vos.rvos import rvos, save_rvos
from innerloop_vos.weight_files import read_network, read_weights
from innerloop_vos.weight_files.checkpoints import read_checkpoint

TINY_EOSVOS = {"channels": 8, "image_size": (48, 64), "box_features": 8, "mask_features": 8}
SLOWEST = 20  # seconds
LARGEST = 2**31  # bytes

FORBIDDEN = ("os.", "subprocess.", "socket.", "import", "exec", "compile", "ctypes.", "shutil.")
ALLOWED = ("os.listdir", "os.scandir")


class Watch:
    """Notes what the interpreter is asked to do while it is on: an audit hook stays for good."""

    def __init__(self):
        self.on, self.seen = False, []
        sys.addaudithook(self.hear)

    def hear(self, event, arguments):
        if not self.on:
            return
        writes = event == "open" and any(letter in str(arguments[1]) for letter in "wax+")
        if writes or (event.startswith(FORBIDDEN) and event not in ALLOWED):
            self.seen.append((event, *map(str, arguments)))


@pytest.fixture(scope="module")
def watch():
    return Watch()


def outcome(watch, read, path):
    """What reading a file does: nothing but return, or raise one line."""
    watch.seen, watch.on = [], True
    start = time.perf_counter()
    try:
        read(path)
        found = "read"
    except InputError as error:
        text = str(error)
        assert text.isprintable()
        assert len(text) < 1200
        found = "refused"
    finally:
        watch.on = False
    assert time.perf_counter() - start < SLOWEST
    assert watch.seen == []
    return found


def damaged(content, luck):
    """Cut, flipped, zeroed, copied, swapped or enlarged in one to four places."""
    content = bytearray(content)
    # Most places are in the numbers, where damage is dull: take those before and after as often.
    for _ in range(luck.choice((1, 1, 1, 2, 4))):
        size = len(content)
        at = luck.choice((luck.randrange(size), luck.randrange(min(size, 800))))
        at = luck.choice((at, size - 1 - luck.randrange(min(size, 1500))))
        length = luck.randrange(1, 40)
        kind = luck.randrange(8)
        if kind == 0:
            content[at] ^= 1 << luck.randrange(8)
        elif kind == 1:
            content[at] = luck.randrange(256)
        elif kind == 2:
            content[at : at + length] = bytes(len(content[at : at + length]))
        elif kind == 3:
            content[at : at + length] = luck.randbytes(length)
        elif kind == 4:
            content[at : at + length] = b""
        elif kind == 5:
            content[at : at + length] *= 2
        elif kind == 6:
            content[at : at + 4] = luck.choice((b"\xff\xff\xff\x7f", b"\xff" * 4, b"\0\0\0\x80"))
        else:
            del content[max(at, 1) :]
    return bytes(content)


def opcodes_changed(content, luck):
    """Other opcodes in the pickle, which a checksum of 0 lets pass."""
    content = bytearray(content)
    start = content.find(b"\x80")
    for _ in range(luck.randrange(1, 4)):
        at = start + luck.randrange(min(1500, len(content) - start))
        content[at] = luck.choice(b"0123(.NKMJIFGSTUVXcibldRostaeupqhjrgPQ\x81\x85\x86\x87\x88\x93")
    return bytes(content)


def test_damaged_checkpoints(tmp_path, watch):
    luck = random.Random(0)
    whole = []
    for zipped in (True, False):
        for protocol in (2, 4):
            for checksums in (True, False):
                torch.serialization.set_crc32_options(checksums)
                path = tmp_path / "whole.pth"
                torch.save(
                    contents(DTYPES),
                    path,
                    pickle_protocol=protocol,
                    _use_new_zipfile_serialization=zipped,
                )
                whole.append(path.read_bytes())
    torch.serialization.set_crc32_options(True)
    path.unlink()
    for content in whole:  # what is loaded late is loaded now
        (tmp_path / "c.pth").write_bytes(content)
        assert outcome(watch, read_checkpoint, tmp_path / "c.pth") == "read"
    modules, before = set(sys.modules), peak()
    counts = Counter()
    for number in range(2000):
        damage = opcodes_changed if number % 3 == 0 else damaged
        (tmp_path / "c.pth").write_bytes(damage(luck.choice(whole), luck))
        read = read_weights if number % 5 == 0 else read_checkpoint
        counts[outcome(watch, read, tmp_path / "c.pth")] += 1
    print(f"\n2000 damaged checkpoints: {dict(counts)}, {(peak() - before) / 2**20:.0f} MB more")
    assert min(counts["read"], counts["refused"]) > 100  # the damage is neither too small nor large
    assert peak() - before < LARGEST
    assert set(sys.modules) == modules
    assert [path.name for path in tmp_path.iterdir()] == ["c.pth"]


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


VALUES = [
    *(None, True, -1, 0, 1, 3.5, 10**9, 2**31, 2**64, 10**400, float("nan"), float("inf"), -1e308),
    *("8", "", "a\nb\x1b[31m", [], [0], [1, 2, 3], [10**9] * 4, [[]], {}, {"a": 1}, "x" * 5000),
]


def recipe_changed(recipe, luck):
    """A recipe in which one or two values are others, or that is none."""
    recipe = json.loads(json.dumps(recipe))
    for _ in range(luck.randrange(1, 3)):
        place = luck.choice([recipe, recipe["sizes"], recipe["sizes"], recipe["sizes"]])
        if not isinstance(place, dict):
            continue
        name = luck.choice([*place, "weights", "solver", "builder"])
        place[name] = copy.deepcopy(luck.choice(VALUES))
        if not isinstance(recipe.get("sizes"), dict):
            break
    text = json.dumps(recipe)
    if luck.random() < 0.15:
        text = luck.choice(["[" * 100_000, '{"sizes":' * 5000, "NaN", "1" * 5000, text[:-9], "\0"])
    return text


@pytest.mark.usefixtures("tiny_backbone")
def test_damaged_weight_files(tmp_path, watch):
    luck = random.Random(1)
    network, other = tiny_lwl(), eosvos_mobilenet_v2(**TINY_EOSVOS)
    save_lwl(network, tmp_path / "lwl.safetensors")
    save_eosvos(other, initial_rates(other), tmp_path / "e-osvos.safetensors")
    save_lwl_lite(lwl_lite(features=8, outputs=2), tmp_path / "lwl-lite.safetensors")
    save_agame(agame(features=8), tmp_path / "a-game.safetensors")
    save_rvos(rvos(widths=(3, 3, 3, 3)), tmp_path / "rvos.safetensors")
    files = {
        "lwl": load_lwl,
        "lwl-lite": lwl_lite,
        "e-osvos": load_eosvos,
        "a-game": agame,
        "rvos": rvos,
    }
    path, counts = tmp_path / "w.safetensors", Counter()
    for name, load in files.items():  # what is loaded late is loaded now
        assert outcome(watch, load, tmp_path / f"{name}.safetensors") == "read"
    modules, before = set(sys.modules), peak()
    for number in range(300):
        name = luck.choice([*files])
        whole = tmp_path / f"{name}.safetensors"
        if number % 3:
            state, recipe = read_network(whole)
            path.write_bytes(save(state, {"network": recipe_changed(recipe, luck)}))
        else:
            path.write_bytes(damaged(whole.read_bytes(), luck))
        counts[outcome(watch, files[name], path)] += 1
    print(f"\n300 damaged weight files: {dict(counts)}, {(peak() - before) / 2**20:.0f} MB more")
    assert counts["refused"] > 100
    assert peak() - before < LARGEST
    assert set(sys.modules) == modules
