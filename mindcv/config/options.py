"""Every option of the commands, declared once; names are MindCV's.

The command line, the yaml reader and `--help` are generated from the fields of `Config`: a field's
type is the option's type, its metadata the option's row.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from operator import ge, gt, le
from typing import Any, Optional, Union

from ..data.datasets import DATASETS
from ..data.preprocessing import CROP_MODES, INTERPOLATIONS, LARGEST_CROP, RANDOM
from ..loss import LOSSES
from ..optim import OPTIMIZERS, WEIGHT_DECAY_FILTERS, names_taking
from ..scheduler import DECAY_SHAPES, SCHEDULES


@dataclass(frozen=True)
class OptionRow:
    """An option's properties besides name, type and default: the metadata of its field.

    Attributes:
        used_by: commands that use it: train, validate, lr; measuring: validate with
            precise_bn_samples, which reads training images. Other commands refuse it on the command
            line, but not in a yaml file, which may serve several commands.
        may_change: may differ when a run is resumed: paths, output and what is kept, which change
            no number of the run. Device, mode and jit level are compared as resolved, not as given.
            The decoder changes a few pixels by a few levels, but must be free to change: pillow
            lets a run continue if an image crashes MindSpore.
        choices, known: names match in any case; `known` ones are not the only ones.
    """

    help: str
    used_by: frozenset[str]
    section: str | None = None  # starts this section of `--help` and of the saved config
    choices: tuple | None = None
    known: tuple[str, ...] = ()
    low: float | None = None  # inclusive, for each element of a tuple; so is high
    high: float | None = None
    above: float | None = None  # exclusive lower bound
    is_mapping: bool = False  # a text of settings, which yaml may write as a mapping
    is_path: bool = False  # a leading ~ is expanded
    per_host: bool = False  # may differ between the processes of a run: paths and output
    may_change: bool = False


def option(default: Any, help: str, used_by: str = "train", **row) -> Any:
    """Declare an option; `row` holds further fields of `OptionRow`."""
    commands = frozenset(used_by.split())
    return field(default=default, metadata=vars(OptionRow(help, commands, **row)))


def bounds_of(limits: Mapping[str, Any]) -> Iterator[tuple[str, Callable, float]]:
    """Yield the bounds in an option's metadata: (in words, comparison, limit)."""
    names = ("low", "at least", ge), ("above", "above", gt), ("high", "at most", le)
    for key, words, holds in names:
        if limits[key] is not None:
            yield words, holds, limits[key]


def marked(flag: str) -> frozenset[str]:
    """Return the names of the options with a flag: per_host or may_change."""
    return frozenset(name for name, entry in OPTIONS.items() if entry.metadata[flag])


@dataclass(frozen=True)
class Config:
    """All options of one run, immutable; each option is declared here and nowhere else."""

    # fmt: off
    mode: int = option(0, "0: graph mode, 1: PyNative", choices=(0, 1), section="system", used_by="train validate", may_change=True)
    distribute: bool = option(False, "data-parallel training; start the command with msrun", used_by="train validate", may_change=True)
    device_target: Optional[str] = option(None, "device; null: Ascend where there is one, else CPU", choices=("Ascend", "CPU"), used_by="train validate", may_change=True)
    jit_level: Optional[str] = option(None, "graph compilation level; null: O2 on Ascend, O1 on CPU", choices=("O0", "O1", "O2"), used_by="train validate", may_change=True)
    compile_cache: str = option("auto", "where compiled graphs are kept for the next start: auto: in the cache folder on a CPU, off on Ascend; off; or a folder, see docs/train.md", known=("auto", "off"), used_by="train validate", is_path=True, per_host=True, may_change=True)
    seed: int = option(42, "seed of weights, sample order and augmentation", low=0, high=2**31 - 1, used_by="train validate")
    val_while_train: bool = option(False, "evaluate on val_split during training; left out, it is True with val_fraction, and with pretrained or ckpt_path where val_split is found", may_change=True)
    val_interval: int = option(1, "epochs between evaluations; the last epoch always has one", low=1, may_change=True)
    early_stop_patience: int = option(0, "end the run after this many evaluations in a row without a better score, top-1 or mAP; 0: never", low=0, may_change=True)
    early_stop_min_delta: float = option(0.0, "how far a better score must exceed the best one for early_stop_patience, percentage points", low=0, high=100, may_change=True)
    log_interval: int = option(100, "steps between log lines", low=1, per_host=True, may_change=True)
    import_module: Optional[str] = option(None, "module, or path of a .py file, to import first: registers your own models", used_by="train validate lr", is_path=True, per_host=True, may_change=True)
    dry_run: bool = option(False, "build everything up to the first step, print it and stop", used_by="train validate", may_change=True)
    show_batch: Optional[str] = option(None, "write the first augmented training images to this PNG file before training", is_path=True, per_host=True, may_change=True)
    log_samples: Optional[str] = option(None, "write to this csv file which images went into each step, and to FILE.names what they are", is_path=True, per_host=True, may_change=True)
    results_dir: Optional[str] = option(None, "write the figures of each class and the confusion matrix into this folder, as json, csv and png", used_by="validate", is_path=True, may_change=True)
    profile: int = option(0, "profile this many steps after the second one with MindSpore's profiler, into ckpt_save_dir/profile; 0: none", low=0, may_change=True)
    debug: bool = option(False, "show the traceback of an error", used_by="train validate", per_host=True, may_change=True)

    dataset: str = option("imagenet", "imagenet (folders <data_dir>/<split>/<class>/), csv or json (lists <data_dir>/<split>.csv with path and label), multi_label (<data_dir>/<split>.csv with path and several labels; needs loss BCE or asl_multi_label), cifar10, cifar100, mnist, mnist_demo, mindrecord (of python -m mindcv pack), or one that import_module registers", known=tuple(DATASETS), section="dataset", used_by="train validate lr")
    data_dir: str = option("./", "root folder of the dataset", used_by="train validate lr", is_path=True, per_host=True, may_change=True)
    train_split: str = option("train", "split to train on", used_by="train validate lr")
    val_split: str = option("val", "split to evaluate on", used_by="train validate")
    val_fraction: float = option(0.0, "hold this share of each class's images out of train_split and evaluate on it, in place of val_split; data_dir may then hold the class folders itself; 0: val_split is evaluated", low=0, high=0.9, used_by="train validate lr")
    dataset_download: bool = option(False, "download cifar10, cifar100 or mnist into data_dir, unless it is there", used_by="train validate", may_change=True)
    num_parallel_workers: int = option(8, "threads of the input pipeline; lowered to the cores of this process", low=1, used_by="train validate")
    shuffle: bool = option(True, "shuffle the training images every epoch", used_by="train measuring")
    sampler: Optional[str] = option(None, "balanced: an epoch keeps its length and draws all classes equally often, the images of a small class repeatedly; null: each image once", choices=("balanced",), used_by="train measuring")
    decoder: str = option("mindspore", "of training images: mindspore decodes only what a crop needs; pillow the whole image, which takes longer, and refuses a file whose damage ends MindSpore's process; evaluation and predict decode by pillow", choices=("mindspore", "pillow"), used_by="train measuring", may_change=True)
    num_samples: Optional[int] = option(None, "train on at most this many images", low=1, used_by="train measuring lr")
    batch_size: int = option(128, "images per device and step", low=1, used_by="train validate lr")
    max_bad_fraction: float = option(0.01, "share of the training images that may be unreadable: they are replaced and listed in bad_images.csv; more stop the run", low=0, high=1, used_by="train measuring", may_change=True)
    allow_bad_images: bool = option(False, "leave unreadable images out of an evaluation; otherwise they are an error", used_by="train validate")
    drop_remainder: bool = option(True, "drop the last partial training batch", used_by="train measuring lr")

    image_resize: Union[int, tuple[int, int]] = option(224, "side of the network's input, pixels; or height and width", low=8, high=4096, section="augmentation", used_by="train validate")
    scale: tuple[float, float] = option((0.08, 1.0), "area range of the random crop, as a fraction of the image", above=0, high=1, used_by="train measuring")
    ratio: tuple[float, float] = option((0.75, 1.333), "aspect range of the random crop", above=0, used_by="train measuring")
    hflip: float = option(0.5, "probability of a horizontal flip", low=0, high=1, used_by="train measuring")
    vflip: float = option(0.0, "probability of a vertical flip", low=0, high=1, used_by="train measuring")
    color_jitter: Union[None, float, tuple[float, float, float], tuple[float, float, float, float]] = option(0.4, "strength for brightness, contrast, saturation (and hue); off with auto_augment other than 3a", low=0, used_by="train measuring")
    lighting: float = option(0.0, "standard deviation of a colour shift along ImageNet's principal components; pycls: 0.1; 0: off", low=0, used_by="train measuring")
    interpolation: str = option("bilinear", "resampling of train and eval transforms; random: bilinear or bicubic in training, bilinear in eval", choices=(*INTERPOLATIONS, RANDOM), used_by="train validate")
    auto_augment: Optional[str] = option(None, "policy in timm's syntax: randaug-m9-mstd0.5-inc1, autoaug-mstd0.5, autoaugr, v0, 3a, trivialaugwide, augmix-m5-w4-d2", used_by="train measuring")
    augment_on_device: bool = option(False, "flip, jitter and erase whole batches in the graph: saves the host a sixth of its time, costs the device over 70 operators a step; for a host short of cores; not with lighting, hue, mixing, aug_splits and re_value random", used_by="train measuring")
    aug_splits: int = option(0, "copies of each image in a batch, the first one without auto_augment; for the JSD loss; 0: off", low=0, used_by="train measuring")
    aug_repeats: int = option(0, "repeated augmentation: copies of an image in an epoch; 0 and 1: off", low=0, used_by="train measuring")
    re_prob: float = option(0.0, "probability of erasing a random rectangle", low=0, high=1, used_by="train measuring")
    re_scale: tuple[float, float] = option((0.02, 0.33), "area range of the erased rectangle", above=0, high=1, used_by="train measuring")
    re_ratio: tuple[float, float] = option((0.3, 3.3), "aspect range of the erased rectangle", above=0, used_by="train measuring")
    re_value: Union[float, tuple[float, float, float], str] = option(0.0, "fill after normalisation: a number (0: the mean colour), one for each channel, or random (a normal draw per pixel)", known=("random",), used_by="train measuring")
    re_max_attempts: int = option(10, "tries to place the rectangle", low=1, used_by="train measuring")
    mean: Optional[tuple[float, ...]] = option(None, "channel means, 0-255 scale; null: the dataset's own", low=0, high=255, used_by="train validate")
    std: Optional[tuple[float, ...]] = option(None, "channel standard deviations, 0-255 scale; null: the dataset's own", above=0, used_by="train validate")
    crop_pct: float = option(0.875, "eval: share of the resized shorter side that the centre crop keeps; above 1 it has a black border", above=0, high=LARGEST_CROP, used_by="train validate")
    crop_mode: str = option("center", "eval: center keeps the aspect, squash resizes to a square", choices=CROP_MODES, used_by="train validate")
    antialias: bool = option(False, "eval: resize and crop as Pillow does for torchvision and timm; False: as MindSpore does for MindCV, without antialiasing; training crops are MindSpore's", used_by="train validate")
    tta: Optional[str] = option(None, "test-time augmentation: mean probabilities of the image and its mirror image; of its corners and centre (5crop); of these and their mirror images (10crop)", choices=("flip", "5crop", "10crop"), used_by="validate", may_change=True)
    mixup: float = option(0.0, "mixup alpha; 0: off", low=0, used_by="train measuring")
    cutmix: float = option(0.0, "cutmix alpha; 0: off", low=0, used_by="train measuring")
    cutmix_prob: float = option(1.0, "probability of mixing a batch at all", low=0, high=1, used_by="train measuring")
    switch_prob: float = option(0.5, "probability of cutmix where mixup is on too", low=0, high=1, used_by="train measuring")
    mixup_off_epoch: int = option(0, "epochs after which nothing is mixed; 0: never", low=0, used_by="train measuring")

    model: str = option("", "name of a registered model", section="model", used_by="train validate")
    regnet: Optional[str] = option(None, "settings of --model regnet, e.g. \"w_a=36, w_0=24, w_m=2.5, d=13, group_w=8\": arguments of RegNet; in yaml also a mapping", used_by="train validate", is_mapping=True)
    anynet: Optional[str] = option(None, "settings of --model anynet, e.g. \"depths=[1,2], widths=[16,32]\": arguments of AnyNet, strides 2 unless given; in yaml also a mapping", used_by="train validate", is_mapping=True)
    num_classes: Optional[int] = option(None, "classes; null: read from the dataset", low=1, used_by="train validate")
    in_channels: int = option(3, "image channels; 1: grey, for mnist, or with mean and std of grey images", choices=(1, 3), used_by="train validate")
    drop_rate: Optional[float] = option(None, "dropout before the classifier", low=0, high=0.99)
    drop_path_rate: Optional[float] = option(None, "stochastic depth of the last block, linear in depth", low=0, high=0.99)
    pretrained: Union[bool, str] = option(False, "start from published weights: True, the name of a source, or an address (hf-hub:owner/name, modelscope:owner/name, https://…#sha256=…), see docs/pretrained.md", used_by="train validate")
    ckpt_path: str = option("", "start from the weights of this file, whatever its name", used_by="train validate", is_path=True, per_host=True)
    compare: Optional[tuple[str, ...]] = option(None, "further weight files, or names of models with published weights, for a table of all", used_by="validate", may_change=True)

    epoch_size: int = option(90, "epochs", low=1, high=100_000, section="training", used_by="train lr")
    dataset_sink_mode: bool = option(True, "Ascend, graph mode: let the device pull its batches, by MindSpore's data sink; losses, checkpoints and stop signals are then looked at after each epoch", may_change=True)
    ckpt_save_dir: str = option("./ckpt", "run folder: checkpoints, config.yaml, train.log, metrics.csv", is_path=True, per_host=True, may_change=True)
    summary_dir: Optional[str] = option(None, "write event files for TensorBoard into this folder (extra tensorboard)", is_path=True, per_host=True, may_change=True)
    ckpt_save_interval: int = option(1, "epochs between checkpoints", low=1, may_change=True)
    ckpt_save_policy: Optional[str] = option("latest_k", "which checkpoints to keep; null: all", choices=("latest_k", "top_k"), may_change=True)
    keep_checkpoint_max: int = option(10, "how many checkpoints to keep", low=1, may_change=True)
    ckpt_save_steps: int = option(0, "steps between further checkpoints, to resume from; 0: none", low=0, may_change=True)
    ckpt_save_minutes: float = option(0.0, "minutes between further checkpoints; 0: none", low=0, may_change=True)
    resume: Optional[str] = option(None, "continue a run: auto for the newest intact checkpoint in ckpt_save_dir, or the path of a checkpoint", is_path=True, may_change=True)
    resume_opt: bool = option(False, "go on from ckpt_path with its optimizer and all else: the same as resume with that path", may_change=True)
    ema: bool = option(False, "average the weights while training; validate.py: take the averaged ones of the file, by default where it holds them", used_by="train validate")
    ema_decay: float = option(0.9999, "decay of the weight average; it rises to this over some 2,000 updates", low=0, high=0.9999999)
    val_weights: Optional[str] = option(None, "with ema: which weights an epoch's evaluation measures; the best checkpoint goes by the averaged ones where they are measured; null: averaged", choices=("averaged", "raw", "both"), may_change=True)
    clip_grad: bool = option(False, "clip gradients, after their reduction over the devices")
    clip_value: float = option(15.0, "limit of clip_grad", above=0)
    clip_mode: str = option("global_norm", "what clip_grad limits: the norm of all gradients, of each one, or each value", choices=("global_norm", "norm", "value"))
    gradient_accumulation_steps: int = option(1, "batches per update; their gradients are averaged", low=1, used_by="train lr")
    sync_bn: bool = option(False, "batch normalisation over the images of all devices")
    precise_bn_samples: int = option(0, "before an evaluation, validate.py's too, measure the statistics of batch normalisation over this many training images; 0: keep the running ones", low=0, used_by="train validate")
    freeze_stages: Optional[int] = option(None, "freeze the stem and this many stages; 0: the stem only", low=0, used_by="train measuring")
    unfreeze_epoch: int = option(0, "after this epoch the frozen layers train too, with a new optimizer; 0: never; validate.py then freezes none", low=0, used_by="train measuring")

    opt: str = option("adam", "optimizer", choices=tuple(OPTIMIZERS), section="optimizer")
    momentum: float = option(0.9, f"momentum of {names_taking('momentum')}", low=0, high=1)
    use_nesterov: bool = option(False, f"Nesterov's momentum, for {names_taking('nesterov')}")
    weight_decay: float = option(1e-6, "weight decay", low=0)
    weight_decay_filter: str = option("disable", "parameters without decay: none | beta, gamma | 1-D and bias", choices=tuple(WEIGHT_DECAY_FILTERS))
    layer_decay: Optional[float] = option(None, "factor on the learning rate from each layer (stem, blocks, head) to the one below; null: 1", above=0, high=1)
    layer_lr: Optional[str] = option(None, "factors on the learning rate by the first part of parameters' names, e.g. \"stem=0.1, stages.0=0.1, head=2\", beside layer_decay; the longest part counts, all others have 1; in yaml also a mapping", is_mapping=True)
    eps: float = option(1e-8, f"epsilon of {names_taking('eps')}", above=0)

    scheduler: str = option("cosine_decay", "learning-rate schedule after the warm-up", choices=tuple(SCHEDULES), section="scheduler", used_by="train lr")
    lr: float = option(0.001, "peak learning rate", above=0, used_by="train lr")
    lr_base_size: Optional[int] = option(None, "lr is meant for a global batch of this size and is scaled to the run's own; null: lr as it is", low=1, used_by="train lr")
    min_lr: float = option(1e-6, "final learning rate of cosine_decay, one_cycle and wsd, lowest of cyclic", low=0, used_by="train lr")
    warmup_epochs: int = option(3, "epochs of linear warm-up", low=0, used_by="train lr")
    warmup_steps: Optional[int] = option(None, "steps of linear warm-up, in place of warmup_epochs; null: warmup_epochs holds", low=0, used_by="train lr")
    warmup_factor: float = option(0.0, "the warm-up starts at lr x this", low=0, high=1, used_by="train lr")
    decay_epochs: Optional[int] = option(None, "cosine: length of a cycle, null: fill the rest of the run; step_decay: epochs between drops; wsd: length of the final decay, null: a tenth of the run", low=1, used_by="train lr")
    decay_shape: str = option("linear", "final decay of wsd", choices=tuple(DECAY_SHAPES), used_by="train lr")
    decay_rate: float = option(0.9, "factor of step, multi-step and exponential decay, power of polynomial decay", above=0, used_by="train lr")
    multi_step_decay_milestones: tuple[int, ...] = option((30, 60, 90), "epochs of the drops of multi_step_decay, counted from the end of the warm-up", low=1, used_by="train lr")
    lr_epoch_stair: bool = option(False, "one learning rate per epoch instead of one per step", used_by="train lr")
    num_cycles: int = option(1, "cycles of cosine_decay and cyclic", low=1, used_by="train lr")
    cycle_decay: float = option(1.0, "factor on the peak from cosine cycle to cosine cycle", above=0, high=1, used_by="train lr")

    loss: str = option("CE", "training loss", choices=tuple(LOSSES), section="loss")
    class_weights: Union[None, tuple[float, ...], str] = option(None, "how much each class counts in the training loss: balanced (images / (classes x images of the class)), a number for each class, or a JSON file, class name to weight; null: all alike", known=("balanced",), above=0, is_path=True)
    bce_target_thresh: Optional[float] = option(None, "BCE: targets above it count as 1, the others as 0; null: as they are", low=0, high=0.999)
    label_smoothing: float = option(0.0, "label smoothing; asl_multi_label has none", low=0, high=0.999)
    aux_factor: float = option(0.0, "weight of the auxiliary outputs of a model that has them", low=0)
    reduction: str = option("mean", "reduction over the batch; asl_multi_label always sums", choices=("mean", "sum"))

    amp_level: str = option("O0", "mixed precision of training", choices=("O0", "O1", "O2", "O3", "auto"), section="precision")
    val_amp_level: str = option("O0", "mixed precision of validate.py", choices=("O0", "O1", "O2", "O3", "auto"), used_by="validate", may_change=True)
    amp_cast_list: Optional[tuple[str, ...]] = option(None, "layers of mindspore.nn instead of the level's list: those in float16 for O1, in float32 for O2")
    keep_bn_fp32: Optional[bool] = option(None, "normalisation in float32 with O2 and O3; null: O2 yes, O3 no")
    loss_scale_type: str = option("fixed", "fixed | dynamic | auto (dynamic with float16, none without)", choices=("fixed", "dynamic", "auto"))
    loss_scale: float = option(1.0, "loss scale, or the first one of a dynamic scale", above=0)
    drop_overflow_update: bool = option(False, "skip a step whose loss or gradients overflow, as a dynamic loss scale does by itself; it changes no weight and no statistic, and is reported", may_change=True)
    max_skipped_steps: int = option(50, "updates skipped in a row, of which one more ends the run", low=0, may_change=True)
    # fmt: on

    @property
    def evaluated(self) -> str:
        """What is evaluated, in words: a split, or the share held out of one."""
        held_out = f"{self.val_fraction:g} of {self.train_split}"
        return held_out if self.val_fraction else self.val_split

    def changed(self) -> dict[str, Any]:
        """Return the options that differ from their defaults."""
        return {name: value for name, value in vars(self).items() if value != OPTIONS[name].default}

    @property
    def has_dynamic_scale(self) -> bool:
        """Whether the loss scale is dynamic; `auto`: only where float16 is used, which needs it."""
        if self.loss_scale_type == "auto":
            return self.amp_level != "O0"
        return self.loss_scale_type == "dynamic"


OPTIONS = {entry.name: entry for entry in fields(Config)}

# Keys of older versions of MindCV: key -> (today's key, {old value: today's value}).
# filter_bias_and_bn did not do what its name says: True decayed every parameter, False kept
# MindSpore's own exemption of normalisation parameters (MindCV, pull request 752).
RENAMED_KEYS = {
    "dynamic_loss_scale": ("loss_scale_type", {"true": "dynamic", "false": "fixed"}),
    "epsilon": ("eps", {}),
    "filter_bias_and_bn": ("weight_decay_filter", {"true": "disable", "false": "auto"}),
    "stepwise_lr_sched": ("lr_epoch_stair", {"true": "false", "false": "true"}),
    "use_clip_grad": ("clip_grad", {}),
    "use_ema": ("ema", {}),
}
RENAMED_VALUES = {
    "scheduler": {
        "cosineannealing": "cosine_decay",
        "cosine_decay_lr": "cosine_decay",
        "warmup_cosine_decay_lr": "warmup_cosine_decay",
    },
}

# Names of options in other libraries, for suggestions: our key -> their names.
NAMES_ELSEWHERE = {
    "amp_level": "amp bf16 fp16 half mixed_precision precision",
    "aug_repeats": "ra_sampler repeated_aug",
    "auto_augment": "aa autoaugment",
    "batch_size": "batch bs per_device_train_batch_size train_batch_size",
    "ckpt_path": "checkpoint checkpoint_path initial_checkpoint weights",
    "ckpt_save_dir": "output output_dir project save_dir",
    "ckpt_save_interval": "save_every save_period",
    "class_weights": "class_weight cls_weights weight_class",
    "clip_value": "clip_norm gradient_clip_val max_grad_norm",
    "color_jitter": "hsv_h hsv_s hsv_v jitter",
    "cutmix": "cutmix_alpha",
    "data_dir": "data data_path data_root dataset_dir root train_dir",
    "decay_epochs": "lr_step_size step_size",
    "decay_rate": "gamma lr_gamma",
    "device_target": "accelerator device",
    "drop_path_rate": "drop_path stochastic_depth",
    "drop_rate": "drop dropout",
    "early_stop_min_delta": "early_stopping_threshold min_delta",
    "early_stop_patience": "early_stopping early_stopping_patience patience",
    "ema": "model_ema",
    "ema_decay": "model_ema_decay",
    "epoch_size": "epochs max_epochs num_epochs num_train_epochs",
    "eps": "adam_epsilon opt_eps",
    "freeze_stages": "freeze",
    "gradient_accumulation_steps": "accumulate_grad_batches accumulation_steps grad_accum_steps",
    "hflip": "fliplr horizontal_flip",
    "image_resize": "image_size img_size imgsz input_size resolution train_crop_size",
    "interpolation": "train_interpolation",
    "keep_checkpoint_max": "checkpoint_hist save_total_limit",
    "label_smoothing": "smoothing",
    "layer_lr": "backbone_lr discriminative_lr lr_mult",
    "log_interval": "log_every_n_steps logging_steps print_freq",
    "loss": "bce_loss criterion jsd_loss loss_fn",
    "lr": "base_lr learning_rate lr0",
    "lr_base_size": "lr_base",
    "min_lr": "eta_min lr_min lrf",
    "mixup": "mixup_alpha",
    "model": "arch architecture backbone model_name net",
    "num_classes": "classes nb_classes",
    "num_parallel_workers": "dataloader_num_workers num_workers workers",
    "num_samples": "limit_train_batches max_train_samples",
    "opt": "optim optimizer",
    "pretrained": "weights",
    "re_prob": "erasing random_erase random_erasing reprob",
    "re_value": "remode",
    "results_dir": "results_file",
    "resume": "resume_from resume_from_checkpoint",
    "sampler": "weighted_sampler class_balanced",
    "scheduler": "cos_lr lr_scheduler lr_scheduler_type sched",
    "seed": "manual_seed random_seed",
    "summary_dir": "log_dir logdir tensorboard",
    "sync_bn": "sync_batchnorm",
    "tta": "augment test_time_augmentation",
    "unfreeze_epoch": "freeze_epochs unfreeze_at_epoch unfreeze_backbone_at_epoch",
    "val_fraction": "valid_pct validation_split val_pct",
    "val_interval": "check_val_every_n_epoch eval_interval eval_steps",
    "val_while_train": "do_eval evaluate",
    "vflip": "flipud vertical_flip",
    "warmup_epochs": "lr_warmup_epochs",
    "warmup_factor": "lr_warmup_decay warmup_lr",
    "weight_decay": "wd",
    "weight_decay_filter": "norm_weight_decay",
}

# Keys of MindCV that have no meaning here: key -> (value that asks for nothing, reason). With that
# value, as in its old recipes and in the yaml files that it saves, they are left out.
_MODELARTS = "the ModelArts platform's data copying is not part of this library"
REFUSED_KEYS = {
    "enable_modelarts": ("false", _MODELARTS),
    "data_url": ("/cache/data", _MODELARTS),
    "multi_data_url": ("/cache/data", _MODELARTS),
    "ckpt_url": ("/cache/output", _MODELARTS),
    "train_url": ("/cache/output", _MODELARTS),
    "eval_shuffle": ("false", "an evaluation counts each image once, in any order"),
    "max_rowsize": ("", "MindSpore sizes the shared memory of its pipeline by itself"),
    "mixup_mode": ("batch", "each batch is mixed as a whole"),
    "mixup_prob": ("1.0", "cutmix_prob is the probability of mixing a batch at all"),
    "save_checkpoint": ("true", "a run always saves checkpoints"),
    "smooth_factor": ("0.1", "it never had one in MindCV; label_smoothing has"),
    "summary": ("true", "a run always records metrics.csv; summary_dir adds event files"),
}
