"""How long a save stops the training, and how long it takes: python benchmarks/checkpoint.py.

The whole state of a run of a network: weights, their average, and the optimizer. Nothing is
trained; a copy of the tensors is all that a step waits for, the rest is a thread's work.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import mindspore as ms

import mindcv
from mindcv.checkpoint import Place
from mindcv.weights import Metadata


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="regnet_x_800mf")
    parser.add_argument("--opt", default="momentum")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--folder", help="where to write; default: a temporary folder")
    arguments = parser.parse_args()
    ms.set_context(mode=ms.PYNATIVE_MODE)
    network = mindcv.create_model(arguments.model)
    optimizer = mindcv.create_optimizer(network, arguments.opt, lr=0.1)
    average = mindcv.engine.WeightAverage(network)
    step = mindcv.engine.TrainStep(network, mindcv.create_loss(), optimizer, average=average)
    runtime = mindcv.engine.Runtime("CPU", 1, "O1", 0, 1)
    progress = mindcv.engine.Progress([0.1], 1, 1, bar=False)
    table = mindcv.engine.MetricsTable(None, mindcv.engine.columns_of(True))
    state = mindcv.engine.RunState(network, step, progress, table, runtime)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        measure(Path(folder), arguments, network, state)


def measure(folder: Path, arguments, network, state) -> None:
    keeper = mindcv.engine.CheckpointKeeper(folder, Metadata(arguments.model), "latest_k", 2)
    copying, handing, writing, verifying, plain = [], [], [], [], []
    for epoch in range(1, arguments.repeats + 1):
        start = time.perf_counter()
        snapshot = state.capture(within_epoch=False)
        copied = time.perf_counter()
        keeper.save(snapshot, Place(epoch, 1))
        handed = time.perf_counter()
        keeper.wait()
        written = time.perf_counter()
        keeper.store.newest()
        verified = time.perf_counter()
        ms.save_checkpoint(network, str(folder / "plain.ckpt"))
        copying.append(copied - start), handing.append(handed - copied)
        writing.append(written - handed), verifying.append(verified - written)
        plain.append(time.perf_counter() - verified)
    megabytes = sum(path.stat().st_size for path in folder.glob(f"*-{epoch}_1.*")) / 1e6
    own = (folder / "plain.ckpt").stat().st_size / 1e6
    print(f"{arguments.model}, {arguments.opt}, averaged weights: {megabytes:.0f} MB, milliseconds")
    for what, values in (
        ("training stops: copy the tensors", copying),
        ("training stops: hand them over", handing),
        ("thread: write, hash, flush, seal, prune", writing),
        ("resume: verify the newest", verifying),
        (f"MindSpore's save_checkpoint, weights only ({own:.0f} MB)", plain),
    ):
        low, middle, high = min(values), statistics.median(values), max(values)
        print(f"{what:58s} {1e3 * middle:7.0f}  ({1e3 * low:.0f} to {1e3 * high:.0f})")


if __name__ == "__main__":
    main()
