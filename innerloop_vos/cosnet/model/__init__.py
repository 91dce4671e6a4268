"""The networks of COSNet, which know nothing of videos."""
