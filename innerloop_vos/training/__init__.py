"""What the trainings of all methods share: the loop, its options, its data and its processes."""
