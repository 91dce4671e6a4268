"""Several methods in one table, beside published systems: quality, speed and memory."""
