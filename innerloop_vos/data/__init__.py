"""Readers of video object segmentation data sets, and a synthetic one."""
