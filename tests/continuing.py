"""A video that another segmenter goes on with, from a file."""

import torch

from innerloop._states import read_state, write_state


def check_goes_on(make, frames, masks, folder, from_boxes=False, corrections=None):
    """Segment a clip, and again by new segmenters that go on behind each of its frames.

    Args:
        make: returns a segmenter, each time one with the same network and options.
        frames: frames (3, H, W).
        masks: masks (H, W) that are given, by the index of their frame.
        folder: for the states.
        from_boxes: whether the first masks were found in boxes.
        corrections: true masks of frames that are corrected, by their index.

    Returns:
        The masks of all frames.
    """
    corrections = corrections or {}

    def follow(segmenter, index):
        if index in corrections:
            return segmenter.correct(frames[index], corrections[index])
        return segmenter.step(frames[index], masks.get(index))

    whole, found = make(), []
    for index, frame in enumerate(frames):
        if index:
            labels = follow(whole, index)
        else:
            labels = whole.start(frame, masks[0], from_boxes=from_boxes)
        found.append((labels, whole.probabilities))
        write_state(folder / f"{index}.pt", whole.state_dict())
    for begin in range(1, len(frames)):
        segmenter = make()
        torch.manual_seed(begin)
        segmenter.load_state_dict(read_state(folder / f"{begin - 1}.pt"))
        for index in range(begin, len(frames)):
            labels = follow(segmenter, index)
            assert labels.equal(found[index][0]), (begin, index)
            assert segmenter.probabilities.equal(found[index][1]), (begin, index)
    return [labels for labels, _ in found]


def check_finds_on(make, frames, folder):
    """The same of a segmenter that finds objects by itself; returns the masks of all frames."""
    whole, found = make(), []
    whole.start(frames)
    for index, frame in enumerate(frames):
        found.append(whole.step(frame))
        write_state(folder / f"{index}.pt", whole.state_dict())
    for begin in range(1, len(frames)):
        segmenter = make()
        torch.manual_seed(begin)
        segmenter.start(frames)
        segmenter.load_state_dict(read_state(folder / f"{begin - 1}.pt"))
        for index in range(begin, len(frames)):
            assert segmenter.step(frames[index]).equal(found[index]), (begin, index)
    return found
