"""The training of RVOS."""
