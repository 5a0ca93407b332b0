"""Recipes with the keys and the order of MindCV's own files."""

RECIPE_X_800MF = """\
# system
mode: 0
distribute: True
num_parallel_workers: 8
val_while_train: True

# dataset
dataset: 'imagenet'
data_dir: '/path/to/imagenet'
shuffle: True
dataset_download: False
batch_size: 64
drop_remainder: True

# augmentation
image_resize: 224
scale: [0.08, 1.0]
ratio: [0.75, 1.333]
hflip: 0.5
vflip: 0.0
interpolation: 'bilinear'
color_jitter: 0.4
re_prob: 0.1

# model
model: 'regnet_x_800mf'
num_classes: 1000
pretrained: False
ckpt_path: ""
keep_checkpoint_max: 10
ckpt_save_dir: './ckpt'
epoch_size: 200
dataset_sink_mode: True
amp_level: 'O3'

# loss
loss: 'CE'
label_smoothing: 0.1

# lr scheduler
scheduler: 'cosine_decay'
lr: 0.1
min_lr: 0.0
decay_epochs: 195
warmup_epochs: 5
warmup_factor: 0.01
lr_epoch_stair: True

# optimizer
opt: 'momentum'
weight_decay: 0.0001
loss_scale: 128
momentum: 0.9
use_nesterov: False
"""

RECIPE_Y_16GF = """\
# system
mode: 0
distribute: True
num_parallel_workers: 8
val_while_train: True
val_interval: 1
log_interval: 100

# dataset
dataset: 'imagenet'
data_dir: '/path/to/imagenet'
shuffle: True
batch_size: 64
drop_remainder: True

# augmentation
image_resize: 224
scale: [0.08, 1.0]
ratio: [0.75, 1.333]
hflip: 0.5
interpolation: 'bicubic'
auto_augment: 'randaug-m9-mstd0.5-inc1'
re_prob: 0.25
re_value: 'random'
crop_pct: 0.9
mixup: 0.8
cutmix: 1.0
cutmix_prob: 1.0
aug_repeats: 3
color_jitter: 0.4

# model
model: 'regnet_y_16gf'
num_classes: 1000
pretrained: False
ckpt_path: ''
keep_checkpoint_max: 10
ckpt_save_policy: 'latest_k'
ckpt_save_dir: './ckpt'
epoch_size: 350
dataset_sink_mode: True
amp_level: 'O2'
ema: False
clip_grad: False

# loss
loss: 'CE'
label_smoothing: 0.1

# lr scheduler
scheduler: 'cosine_decay'
min_lr: 0.0
lr: 0.2
warmup_epochs: 5
warmup_factor: 0.01
decay_epochs: 345

# optimizer
opt: 'momentum'
momentum: 0.9
weight_decay: 4e-5
use_nesterov: False
loss_scale_type: 'auto'
drop_overflow_update: False
"""
