"""The common part of all trainings: the loop, its options, its data and its processes."""
