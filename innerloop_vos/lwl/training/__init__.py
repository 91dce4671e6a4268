"""The training of LWL, end to end in stages."""
