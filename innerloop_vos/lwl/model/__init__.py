"""The networks of LWL, without the state of a video."""
