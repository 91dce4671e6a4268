"""Settings that people give: read, checked and explained."""
