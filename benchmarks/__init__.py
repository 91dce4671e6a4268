"""Measurements of innerloop and innerloop_vos, run from the repository's root with `python -m`."""
