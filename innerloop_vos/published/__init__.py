"""What others have published on DAVIS: systems and their figures, each with its source."""

from innerloop_vos.published.reading import Result, Split, System, read_published

__all__ = ["Result", "Split", "System", "read_published"]
