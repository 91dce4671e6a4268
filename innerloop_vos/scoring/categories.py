"""The scores of YouTube-VOS: of objects of seen and of unseen categories, and their mean G."""

from collections.abc import Iterable
from statistics import fmean

from innerloop.errors import InputError
from innerloop_vos.data.youtube_vos import YouTubeVOSDataset
from innerloop_vos.scoring.sequence import SequenceScores


def category_scores(
    sequences: Iterable[SequenceScores], dataset: YouTubeVOSDataset
) -> dict[str, float]:
    """Average J and F over the objects of each kind of category.

    Args:
        sequences: the scores of some of the data set's sequences.
        dataset: says of what category an object is, and which categories are seen.

    Returns:
        "J seen", "F seen", "J unseen" and "F unseen", those of which there is an object, and their
        mean "G", as fractions of 1; nothing if there is none.

    Raises:
        InputError: a `meta.json` is missing, or does not say of what category an object is.

    Source:
        Xu et al., YouTube-VOS: A Large-Scale Video Object Segmentation Benchmark, 2018, section 4.
    """
    categories, seen = dataset.categories(), dataset.seen_categories()
    values: dict[str, list[float]] = {}
    for sequence in sequences:
        for scores in sequence.objects:
            category = categories.get((sequence.name, scores.id))
            if category is None:
                raise InputError(
                    f"the meta.json of this split has no object {scores.id} of {sequence.name}"
                )
            kind = "seen" if category in seen else "unseen"
            values.setdefault(f"J {kind}", []).append(scores.summary.region.mean)
            values.setdefault(f"F {kind}", []).append(scores.summary.contour.mean)
    means = {name: fmean(each) for name, each in sorted(values.items(), reverse=True)}
    return means | ({"G": fmean(means.values())} if means else {})
