"""Random augmentation of images and batches."""
