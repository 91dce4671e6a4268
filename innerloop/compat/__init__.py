"""The public calls of other libraries on this core: their users change one import."""
