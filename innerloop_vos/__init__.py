"""Video object segmentation with differentiable inner solvers."""
