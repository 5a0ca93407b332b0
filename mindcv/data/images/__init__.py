"""One image from its bytes: whether it is whole, how it is decoded, what happens to a bad one."""
