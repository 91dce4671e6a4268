"""The training of LWL-lite."""
