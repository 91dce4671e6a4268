"""Region similarity J and contour accuracy F as DAVIS defines them."""

from innerloop_vos.scoring.boundary import contour_accuracy
from innerloop_vos.scoring.categories import category_scores
from innerloop_vos.scoring.folder import score_folder, score_results
from innerloop_vos.scoring.jaccard import region_similarity
from innerloop_vos.scoring.report import (
    beside,
    overall_summary,
    read_json,
    table,
    write_csv,
    write_json,
)
from innerloop_vos.scoring.sequence import (
    NothingToScoreError,
    ObjectScores,
    SequenceScores,
    score_sequence,
)
from innerloop_vos.scoring.unsupervised import score_unsupervised

__all__ = [
    "NothingToScoreError",
    "ObjectScores",
    "SequenceScores",
    "beside",
    "category_scores",
    "contour_accuracy",
    "overall_summary",
    "read_json",
    "region_similarity",
    "score_folder",
    "score_results",
    "score_sequence",
    "score_unsupervised",
    "table",
    "write_csv",
    "write_json",
]
