"""Region similarity J and contour accuracy F as DAVIS defines them."""
