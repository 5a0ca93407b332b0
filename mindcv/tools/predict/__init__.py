"""Classify image files: finding and reading them, the network's answers, how they are told."""
