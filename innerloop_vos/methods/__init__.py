"""The segmentation methods by name, and their options."""
