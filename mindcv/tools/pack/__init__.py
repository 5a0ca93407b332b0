"""Pack an image folder into sharded MindRecord files, which are read as one dataset."""
