"""The batches of an epoch: which images, in which order, read and told of when they fail."""
