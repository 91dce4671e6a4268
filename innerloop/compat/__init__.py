"""The public calls of other libraries on this core: a user of theirs changes one import."""
