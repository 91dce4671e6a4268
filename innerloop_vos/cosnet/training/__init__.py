"""The training of COSNet."""
