"""What is measured, in words that each library understands."""

SIDE = 224
BATCH = 32
WORKERS = 2
POLICY = "randaug-m7-mstd0.5-inc1"

# Arguments of create_transforms, alike in this library and in MindCV.
CASES = {
    "recipe": dict(is_training=True, color_jitter=0.4, re_prob=0.1),
    "crop+flip": dict(is_training=True),
    "eval": dict(is_training=False),
    "randaugment": dict(is_training=True, auto_augment=POLICY),
}
