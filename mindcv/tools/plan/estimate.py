"""What a training takes: memory of a card, exchange of gradients, and each scale's figures."""

import math
from argparse import Namespace
from dataclasses import dataclass

from ...config import Config, updates_of_epoch
from ...design_space import SETTINGS, NetworkPlan, complexity
from ...design_space.complexity import complexity_by_part
from ...design_space.plan import STEMS
from ...errors import ConfigError
from ...optim import OPTIMIZERS


@dataclass(frozen=True)
class PublishedSpeed:
    """A published training of regnet_x_800mf: 8 cards, 64 images of 224 pixels each, amp O3."""

    card: str
    mindspore: str
    step_ms: float
    images_per_second: float
    source: str


_V04, _MAIN = "MindCV 0.4, configs/regnet/README.md", "MindCV, April 2025, same file"
PUBLISHED = {
    "910": PublishedSpeed("Ascend 910", "2.3.1", 42.49, 12_049.89, source=_V04),
    "910star": PublishedSpeed("Ascend 910*", "2.3.1", 50.74, 10_090.66, source=_V04),
    "800t_a2": PublishedSpeed("Atlas 800T A2", "2.5.0", 52.48, 9_756.09, source=_MAIN),
}
PUBLISHED_MODEL, PUBLISHED_DEVICES, PUBLISHED_BATCH = "regnet_x_800mf", 8, 64
# configs/regnet/regnet_x_800mf_ascend.yaml
RECIPE = dict(opt="momentum", amp_level="O3", lr=0.1, batch_size=64, epoch_size=200)
TRAIN_IMAGES = 1_281_167  # ImageNet-1K
TRAIN_TAR_BYTES = 147_897_477_120  # of ILSVRC2012_img_train.tar
DECODE_RATE = 528.0  # images/s a core; half of 1,055 on 2 cores
LARGEST_TESTED_BATCH = 8192  # Goyal et al.: no loss of accuracy up to here
USABLE = 0.8  # of a card's memory
# Bytes of a number that is kept for the backward pass: a convolution's output as its normalisation
# reads it, and the normalised, activated one as the next convolution reads it. O1 and auto
# normalise and activate in float32 and convolve in float16; O2 normalises in float32.
KEPT_BYTES = {"O0": (4, 4), "O1": (4, 6), "O2": (4, 2), "O3": (2, 2), "auto": (4, 6)}
# What only MindSpore's kernels for a CPU keep, found by comparing its memory pool, its graphs and
# torch's saved tensors. A multiplication that broadcasts keeps the places of both operands for each
# of its outputs, 8 bytes each (arithmetic_cpu_kernel.cc, InitBroadCast); squeeze-and-excitation
# has one of them forward and one backward. SiLU's gradient is several kernels, and the sigmoid
# among them runs as soon as its input exists.
CPU_PLACES_BYTES = 32
SCALES = (8, 16, 32, 64, 128, 256, 512, 1024)


def optimizer_states(opt: str, use_nesterov: bool = False) -> int:
    """Return how many numbers an optimizer keeps for each weight."""
    row = OPTIMIZERS[opt]
    return OPTIMIZERS["sgd"].states if use_nesterov and row.nesterov else row.states


def card_memory(
    network: NetworkPlan,
    batch_size: int,
    image_size: int = 224,
    *,
    opt: str = "momentum",
    amp_level: str = "O0",
    use_nesterov: bool = False,
    copies: int = 0,
    on_cpu: bool = False,
) -> dict[str, int]:
    """Return the bytes of a training step on one card, by what they hold, and their sum.

    Parameters, gradients and states are float32; mixed precision adds a float16 copy of the
    parameters. Kept for the backward pass are two numbers for each output of a convolution, three
    with SiLU, whose derivative needs its input, and what squeeze-and-excitation has scaled. The
    workspace is assumed: the largest feature map once more. (While gradients of large maps exist,
    the maps of deeper layers are already free.)

    Args:
        copies: further float32 values per parameter: averaged weights, accumulated gradients.
        on_cpu: add what only the kernels for a CPU keep.
    """
    costs, largest = complexity(network, image_size), largest_map(network, image_size)
    first, second = KEPT_BYTES[amp_level]
    kept = costs.activations * kept_bytes(network, amp_level)
    kept += scaled_maps(network, image_size) * second
    parts = {
        "parameters": costs.params * (4 if amp_level == "O0" else 6),
        "gradients": costs.params * 4,
        "optimizer state": costs.params * 4 * (optimizer_states(opt, use_nesterov) + copies),
        "kept for the backward pass": batch_size * kept,
        "workspace": batch_size * largest * first,
        "images": batch_size * network.in_channels * image_size**2 * 4,
    }
    if on_cpu:
        sigmoids = costs.activations * first if network.activation == "silu" else 0
        places = scaled_maps(network, image_size) * CPU_PLACES_BYTES
        parts["kept by kernels for a CPU"] = batch_size * (sigmoids + places)
    return parts | {"sum": sum(parts.values())}


def kept_bytes(network: NetworkPlan, amp_level: str) -> int:
    """Return the bytes that are kept for each number that a convolution returns."""
    first, second = KEPT_BYTES[amp_level]
    return first + second + (first if network.activation == "silu" else 0)


def largest_map(network: NetworkPlan, image_size: int) -> int:
    """Return the numbers of the largest output of a convolution, for one image."""
    parts = complexity_by_part(network, image_size)
    side = (image_size - 1) // STEMS[network.stem_type].stride + 1
    maps = [network.stem_width * side**2]
    for part, blocks in zip(parts, network.stages()):  # a stage begins at the size before it
        maps.append(blocks[0].bottleneck * part.image_size**2)
    return max(maps)


def scaled_maps(network: NetworkPlan, image_size: int) -> int:
    """Return the numbers that squeeze-and-excitation scales, for one image."""
    _, *parts, _ = complexity_by_part(network, image_size)
    return sum(
        block.bottleneck * part.image_size**2
        for part, blocks in zip(parts, network.stages())
        for block in blocks
        if block.squeezed
    )


def ring_seconds(devices: int, size: float, gbit: float, latency: float) -> float:
    """Return the time of a ring all-reduce of `size` bytes (Patarasuk and Yuan, 2009).

    Args:
        gbit: bandwidth of each link, Gbit/s.
        latency: of each of the 2 (devices - 1) hops, microseconds.
    """
    return 2 * (devices - 1) * (size / devices / (gbit * 1e9 / 8) + latency * 1e-6)


class Plan:
    """All figures of one call."""

    def __init__(self, arguments: Namespace, recipe: Config, config: Config, network: NetworkPlan):
        self.given, self.config, self.network = arguments, config, network
        self.size, self.published = config.image_resize, PUBLISHED[arguments.card or "910"]
        self.costs = complexity(network, self.size)
        self.base = complexity(SETTINGS[PUBLISHED_MODEL].plan())
        self.scale_by = arguments.scale_by or "activations"
        devices = PUBLISHED_DEVICES if recipe.distribute else 1
        images = recipe.batch_size * recipe.gradient_accumulation_steps * devices
        self.lr_batch = recipe.lr_base_size or images
        self.decode_rate = arguments.decode_rate or DECODE_RATE
        self.image_kb = arguments.image_kb or TRAIN_TAR_BYTES / TRAIN_IMAGES / 1000

    def _ring_ms(self, devices: int, params: int) -> float:
        link = self.given.link_gbit, self.given.link_latency
        return 1000 * ring_seconds(devices, 4 * params, *link)

    def _batch_ms(self, scale_by: str) -> float:
        """Return the time of one card's batch without the exchange of gradients."""
        if self.given.step_ms:
            return self.given.step_ms
        exchange = self._ring_ms(PUBLISHED_DEVICES, self.base.params)
        alone = self.published.step_ms - exchange
        if alone <= 0:
            raise ConfigError(
                f"command line: --link_gbit {self.given.link_gbit:g}, --link_latency "
                f"{self.given.link_latency:g}: the exchange would take {exchange:.1f} ms of the "
                f"published step of {self.published.step_ms} ms; give a faster link or --step_ms"
            )
        return alone * self.ratio(scale_by) * self.config.batch_size / PUBLISHED_BATCH

    def ratio(self, by: str) -> float:
        """Return the cost of an image, relative to the published model's."""
        return getattr(self.costs, by) / getattr(self.base, by)

    def memory(self, batch_size: int) -> dict[str, int]:
        config = self.config
        return card_memory(
            self.network,
            batch_size,
            self.size,
            opt=config.opt,
            amp_level=config.amp_level,
            use_nesterov=config.use_nesterov,
            copies=config.ema + (config.gradient_accumulation_steps > 1),
        )

    def largest_batch(self) -> int:
        """Return the most images that fit into the usable part of a card; 0: none."""
        fixed = self.memory(0)["sum"]
        free = self.given.card_memory * 1e9 * USABLE - fixed
        return max(0, int(free // (self.memory(1)["sum"] - fixed)))

    def steps_per_epoch(self, devices: int) -> int:
        """Return the updates in an epoch, as train.py counts them; 0: the images fill none."""
        return updates_of_epoch(self.config, self.given.images, devices)

    def scale(self, devices: int, scale_by: str = "") -> dict:
        """Return the figures of a number of devices; ConfigError: the images fill no step.

        Args:
            scale_by: instead of the option of this name.
        """
        config, given = self.config, self.given
        hosts = -(-devices // given.devices_per_host)
        accumulated, steps = config.gradient_accumulation_steps, self.steps_per_epoch(devices)
        if not steps:
            used = min(given.images, config.num_samples or given.images)
            raise ConfigError(
                f"command line: {used} images do not fill one step of {devices} devices x "
                f"{accumulated} x {config.batch_size}; lower --batch_size or --devices"
            )
        images = devices * config.batch_size * accumulated
        exchange = self._ring_ms(devices, self.costs.params)
        step = self._batch_ms(scale_by or self.scale_by) * accumulated + exchange
        rate = images / step * 1000
        host_rate = rate * min(devices, given.devices_per_host) / devices
        return {
            "devices": devices,
            "hosts": hosts,
            "global_batch": images,
            "lr": config.lr * images / self.lr_batch,
            "steps_per_epoch": steps,
            "all_reduce_ms": exchange,
            "step_ms": step,
            "images_per_second": rate,
            "hours": config.epoch_size * steps * step / 3.6e6,
            "images_per_second_per_host": host_rate,
            "cores_per_host": math.ceil(host_rate / self.decode_rate),
            "mb_per_second_per_host": host_rate * self.image_kb / 1000,
            "form": "folder" if hosts == 1 else "pack",
        }
