"""Frames, videos and masks: read, written and drawn."""
