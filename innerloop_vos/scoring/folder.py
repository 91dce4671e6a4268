"""Scoring of masks in folders, one per sequence."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm

from innerloop.errors import InputError
from innerloop_vos.data.sequence import Sequence, SequenceFolders, annotated
from innerloop_vos.io.masks import read_mask
from innerloop_vos.scoring.sequence import NothingToScoreError, SequenceScores, score_sequence
from innerloop_vos.scoring.unsupervised import score_unsupervised


def score_results(
    results: str | Path, dataset: SequenceFolders, *, unsupervised: bool = False
) -> list[SequenceScores]:
    """Score the masks in `results/SEQ/FRAME.png` against a data set, with a progress bar.

    Args:
        results: the folder with a folder of masks for every sequence of the data set.
        dataset: the annotated sequences; its `single_object` says whether all nonzero ids of a
            prediction are one object, and its `scores_last` whether last frames count.
        unsupervised: as of `score_folder`. Default False.

    Returns:
        The scores of every sequence, in the data set's order.

    Raises:
        InputError: a folder or the mask of a frame that counts is missing (found before any is
            read), cannot be read, or has another size than the frames; or a sequence cannot be
            scored.
    """
    results = Path(results)
    if not results.is_dir():
        raise InputError(f"results folder {results} does not exist")
    sequences = list(dataset)
    last = dataset.scores_last
    for sequence in sequences:
        _prediction_paths(results / sequence.name, sequence, last, unsupervised)
    return [
        score_folder(
            results / sequence.name,
            sequence,
            single_object=dataset.single_object,
            last=last,
            unsupervised=unsupervised,
        )
        for sequence in tqdm(sequences, desc="scoring", unit="sequence")
    ]


def score_folder(
    folder: str | Path,
    sequence: Sequence,
    *,
    single_object: bool = False,
    last: bool = False,
    unsupervised: bool = False,
    seconds: float | None = None,
) -> SequenceScores:
    """Score the masks in `folder/FRAME.png` against one annotated sequence.

    Args:
        folder: the folder of masks, named like their frames. Those that do not count, such as the
            first and the last, need not be there.
        sequence: the annotated sequence.
        single_object: take all nonzero ids as one object, as DAVIS 2016 does. Default False.
        last: whether the last frame counts too, as in YouTube-VOS. Default False.
        unsupervised: whether the method was given no objects: then all annotated frames count, and
            its ids are matched with those of the annotations; see `score_unsupervised`. Default
            False.
        seconds: time that the segmentation took, to be kept with the scores. Default None.

    Returns:
        The scores of the sequence's objects.

    Raises:
        NothingToScoreError: no annotated frame of the sequence is left that counts.
        InputError: the folder or a mask that counts is missing, a mask cannot be read or has
            another size than the frames; or the sequence cannot be scored.
    """
    if sequence.masks is None:
        raise NothingToScoreError(f"sequence {sequence.name} has no annotations to score against")
    if not unsupervised and not sequence.has_truth():
        raise NothingToScoreError(
            f"sequence {sequence.name} has only annotations of objects in the first frames that "
            "show them, which are not scored"
        )
    paths = _prediction_paths(Path(folder), sequence, last, unsupervised)
    score = score_unsupervised if unsupervised else partial(score_sequence, last=last)
    return score(
        sequence.name,
        sequence.frames.names,
        _read_predictions(paths, sequence.frames.size),
        sequence.masks,
        single_object=single_object,
        seconds=seconds,
    )


def _prediction_paths(
    folder: Path, sequence: Sequence, last: bool, unsupervised: bool
) -> list[Path]:
    if not folder.is_dir():
        raise InputError(f"no results for sequence {sequence.name}: {folder} does not exist")
    paths = [folder / f"{name}.png" for name in sequence.frames.names]
    indices = annotated(sequence.masks)
    if not unsupervised:
        end = len(paths) if last else len(paths) - 1
        indices = [i for i in indices[1:] if i < end]
    counting = [paths[i] for i in indices]
    if missing := [path for path in counting if not path.is_file()]:
        raise InputError(
            f"{missing[0]} is missing; sequence {sequence.name} needs a mask for each of its "
            f"{len(counting)} frames that count and {len(missing)} have none"
        )
    return paths


def _read_predictions(paths: list[Path], size: tuple[int, int]) -> Iterator[torch.Tensor | None]:
    for path in paths:
        if not path.is_file():
            yield None
            continue
        prediction = read_mask(path)
        if prediction.shape != size:
            raise InputError(
                f"mask {path} is {prediction.shape[1]}x{prediction.shape[0]} pixels "
                f"(width x height), but its frame is {size[1]}x{size[0]}"
            )
        yield prediction
