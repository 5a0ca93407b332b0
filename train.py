"""Train an image classifier: `mindcv train`, whose code is in mindcv/train.py."""

from mindcv.train import start

if __name__ == "__main__":
    start("train.py")
