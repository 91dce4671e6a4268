"""Layers that the networks of several methods are made of."""
