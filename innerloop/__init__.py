"""Differentiable inner solvers for meta-learning."""

__version__ = "0.1.0"
