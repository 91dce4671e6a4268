"""One module a command: `declare` declares its arguments, `run` does its work."""
