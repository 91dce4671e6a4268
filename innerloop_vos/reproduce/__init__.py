"""The tables and figures of the papers, each run by one command."""
