"""Measure the accuracy of a checkpoint: `mindcv validate`, whose code is in mindcv/validate.py."""

from mindcv.validate import start

if __name__ == "__main__":
    start("validate.py")
