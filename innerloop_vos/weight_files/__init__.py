"""Weights of networks: files of ours, and checkpoints of others."""
