"""From scores of features to masks of pixels."""
