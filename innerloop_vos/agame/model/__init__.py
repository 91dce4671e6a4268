"""The networks of A-GAME, without the state of a video."""
