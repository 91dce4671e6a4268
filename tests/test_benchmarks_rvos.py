"""The measurements of RVOS run to their end on a small data set."""

import json

import pytest
import torch
from davis_layout import write_davis

from benchmarks.rvos import ablation
from innerloop.errors import InputError
from innerloop_vos.rvos.builders import FAMILY, rvos
from innerloop_vos.training.validation import Validation


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_the_ablation_compares_rows_and_goes_on(tmp_path, capsys):
    davis = write_davis(tmp_path / "davis", ["cat", "cow"])
    words = (
        f"--work {tmp_path / 'work'} --davis {davis} --held-out cow --held-out-frames 3 "
        "--iterations 2 --batch-size 1 --height 64 --width 96 --frames 2 --objects 1 --warmup 1 "
        f"--output {tmp_path}"
    ).split()
    ablation.main([*words, "--rows", "one-shot ST+"])
    ablation.main([*words, "--rows", "one-shot ST+", "zero-shot S"])
    written = json.loads((tmp_path / "ablation.json").read_text())
    assert list(written["rows"]) == ["one-shot ST+", "zero-shot S"]
    for row in written["rows"].values():
        assert 0 <= row["J&F"] == (row["J"] + row["F"]) / 2 <= 100
    assert written["rows"]["one-shot ST+"]["F seen"] == 67.1
    assert written["rows"]["zero-shot S"]["F unseen"] is None
    assert written["about"]["sequences"] == ["cow"]
    for folder, recurrence in (("one-shot-ST+", "ST"), ("zero-shot-S", "S")):
        network = rvos(tmp_path / "work" / folder / FAMILY.file)
        assert network.sizes["recurrence"] == recurrence
    lines = capsys.readouterr().out.splitlines()
    # The second call did not train the first row again.
    assert [line[:14].strip() for line in lines] == [
        "", "one-shot ST+", "", "one-shot ST+", "zero-shot S"
    ]  # fmt: skip
    with pytest.raises(InputError, match="batch_size"):
        ablation.main([*words, "--batch-size", "2"])


def test_what_is_trained_on_its_own_masks_differs_in_nothing_else(tmp_path, monkeypatch):
    settings, held_out = [], Validation([], 3)

    class StoppedError(Exception):
        pass

    def stop(network, sampler, validation, own):
        settings.append(own)
        raise StoppedError

    monkeypatch.setattr(ablation, "RVOSTraining", stop)
    for name in ("one-shot ST", "one-shot ST+"):
        with pytest.raises(StoppedError):
            ablation.measure(ablation.ROWS[name], ablation.SETTINGS, None, held_out, tmp_path)
    true, inferred = (vars(own) for own in settings)
    assert {name for name in true if true[name] != inferred[name]} == {"inferred_from"}
