"""Networks for deployment: MINDIR, ONNX and AIR files, checked."""
