"""LWL-lite: Learning What to Learn in closed form, on a small backbone."""
