"""Export networks as MINDIR, ONNX and AIR files, and check them."""
