"""Random changes of images and batches."""
