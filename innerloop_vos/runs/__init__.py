"""Commands that run long: their folders, what they go on from, how they are stopped."""
