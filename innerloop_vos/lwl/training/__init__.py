"""The trainings of LWL: end to end in stages, and its decoder alone."""
