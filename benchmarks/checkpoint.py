"""How long a save stops the training, and how long it takes: python benchmarks/checkpoint.py.

The whole state of a run of a network: weights, their average, and the optimizer. Nothing is
trained; a copy of the tensors is all that a step waits for, the rest is a thread's work.
"""

import sys
import tempfile
import time
from pathlib import Path

import mindspore as ms
from sides import ROOT, create_parser
from tables import Table, markdown, write_results

sys.path.insert(0, str(ROOT))
import mindcv  # noqa: E402
from mindcv.checkpoint import Position  # noqa: E402
from mindcv.weights import Metadata  # noqa: E402


def main() -> None:
    parser = create_parser(__doc__.splitlines()[0])
    parser.add_argument("--model", default="regnet_x_800mf")
    parser.add_argument("--opt", default="momentum")
    parser.add_argument("--folder", help="where to write; default: a temporary folder")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.model = "regnet_x_200mf"
    ms.set_context(mode=ms.PYNATIVE_MODE)
    network = mindcv.create_model(arguments.model)
    optimizer = mindcv.create_optimizer(network, arguments.opt, lr=0.1)
    average = mindcv.engine.WeightAverage(network)
    step = mindcv.engine.TrainStep(network, mindcv.create_loss(), optimizer, average=average)
    runtime = mindcv.engine.Runtime("CPU", 1, "O1", 0, 1)
    progress = mindcv.engine.Progress(mindcv.engine.FiniteWatch([0.1], 1), 1, 1)
    table = mindcv.engine.MetricsTable(has_average=True)
    state = mindcv.engine.RunState(network, step, progress=progress, table=table, runtime=runtime)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        table = measure(Path(folder), arguments, network, state)
    versions = {"ours": f"{mindcv.__version__}, MindSpore {ms.__version__}"}
    write_results(arguments.json, [table], versions, is_finished=True)
    print(markdown(table))


def measure(folder: Path, arguments, network, state) -> Table:
    writer = mindcv.checkpoint.CheckpointWriter(folder, arguments.model, keep=2)
    metadata = Metadata(arguments.model)
    copying, handing, writing, verifying, plain = [], [], [], [], []
    for epoch in range(1, arguments.rounds + 1):
        start = time.perf_counter()
        snapshot = state.capture(within_epoch=False)
        copied = time.perf_counter()
        writer.save(Position(epoch, 1), snapshot.files(metadata), snapshot.figures)
        handed = time.perf_counter()
        writer.wait()
        written = time.perf_counter()
        writer.store.newest()
        verified = time.perf_counter()
        ms.save_checkpoint(network, str(folder / "plain.ckpt"))
        copying.append(copied - start), handing.append(handed - copied)
        writing.append(written - handed), verifying.append(verified - written)
        plain.append(time.perf_counter() - verified)
    megabytes = sum(path.stat().st_size for path in folder.glob(f"*-{epoch}_1.*")) / 1e6
    own = (folder / "plain.ckpt").stat().st_size / 1e6
    setting = f"{arguments.model}, {arguments.opt}, averaged weights: {megabytes:.0f} MB"
    rows = {
        "training stops: copy the tensors": copying,
        "training stops: hand them over": handing,
        "thread: write, hash, flush, seal, prune": writing,
        "resume: verify the newest": verifying,
        f"MindSpore's save_checkpoint, weights only ({own:.0f} MB)": plain,
    }
    rows = {name: {"ours": [1e3 * value for value in own]} for name, own in rows.items()}
    return Table("Saving a run", setting, "ms", rows)


if __name__ == "__main__":
    main()
