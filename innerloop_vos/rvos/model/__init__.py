"""The network of RVOS, which knows nothing of videos."""
