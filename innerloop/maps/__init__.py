"""Linear maps that know no problem: convolutions, Gram matrices of patches, weighting, inverses."""
