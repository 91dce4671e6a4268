"""The training of A-GAME."""
