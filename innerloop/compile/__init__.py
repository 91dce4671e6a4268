"""Compiled gradients: what torch.compile is given, and in which form."""
