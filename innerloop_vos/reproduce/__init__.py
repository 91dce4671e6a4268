"""The tables and figures of the papers of LWL and e-OSVOS, each run by one command."""
