"""One side of the network benchmarks, a process of its own: see `sides.Side`.

    python network_side.py {ours,MindCV,torch,torchvision,timm,onnxruntime} '{"model": …}'

A request names a task (training, inference, folded) and steps; the answer has their seconds. The
first request for a task builds and compiles it. Every step ends when its result has reached the
host. All sides get the same shapes in float32; threads are each library's default.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
from sides import serve

RATE, MOMENTUM = 0.01, 0.9


def main() -> None:
    library, setting = sys.argv[1], json.loads(sys.argv[2])
    side = {"ours": Ours, "MindCV": OfMindSpore, "onnxruntime": OnnxRuntime}.get(library, Torch)(
        library, **setting
    )
    steps = {}

    def answer(request: dict) -> dict:
        task = request["task"]
        if task not in steps:
            steps[task] = getattr(side, task)()
        return {"seconds": [seconds(steps[task]) for _ in range(request["steps"])]}

    serve({"version": side.version, "parameters": side.parameters}, answer)


def seconds(step) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def draw(batch: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    images = generator.standard_normal((batch, 3, size, size), np.float32)
    return images, generator.integers(0, 1000, batch)


class OfMindSpore:
    """A plain program in graph mode, the same for this library and for MindCV."""

    def __init__(self, library: str, model: str, size: int, batch: int, onnx: str | None = None):
        import mindspore as ms

        from mindcv.models import create_model

        ms.set_context(mode=ms.GRAPH_MODE)
        images, labels = draw(batch, size)
        self.images, self.labels = ms.Tensor(images), ms.Tensor(labels, ms.int32)
        self.network, self.size, self.batch, self.onnx = create_model(model), size, batch, onnx
        self.parameters = sum(weight.size for weight in self.network.trainable_params())
        self.version = f"{library_version('mindcv')}, MindSpore {ms.__version__}"

    def training(self):
        from mindspore import nn

        from mindcv.loss import create_loss
        from mindcv.optim import create_optimizer

        optimizer = create_optimizer(self.network, "momentum", lr=RATE, momentum=MOMENTUM)
        with_loss = nn.WithLossCell(self.network, create_loss())
        step = nn.TrainOneStepCell(with_loss, optimizer).set_train()
        return lambda: step(self.images, self.labels).asnumpy()

    def inference(self):
        network = self.network.set_train(False)
        return lambda: network(self.images).asnumpy()


class Ours(OfMindSpore):
    def folded(self):
        from mindcv.models import fold_batch_norm

        network, _ = fold_batch_norm(self.network)
        return lambda: network(self.images).asnumpy()

    def export(self):
        """Write the network, folded, for onnxruntime; there is nothing to time."""
        from mindcv.models import fold_batch_norm
        from mindcv.tools.export.deployment import Deployment, export_network

        network, _ = fold_batch_norm(self.network)
        shape = (3, self.size, self.size)
        export_network(Deployment(network), Path(self.onnx), shape, self.batch)
        return lambda: None


class Torch:
    """Eager torch in channels_last, the layout that its convolutions are fastest in."""

    def __init__(self, library: str, model: str, size: int, batch: int, onnx: str | None = None):
        import torch

        threads = torch.get_num_threads()
        sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "golden"))
        import peers

        torch.set_num_threads(threads)  # the module for golden numbers takes one
        self.torch = torch
        if library == "torchvision":
            network = getattr(peers.torchvision.models, peers.TORCHVISION[model])()
        else:
            others = {"regnet_z_500mf": "regnetz_005", "regnet_z_4_0gf": "regnetz_040_h"}
            network = peers.timm.create_model((peers.TIMM | others)[model])
        images, labels = draw(batch, size)
        self.network = network.to(memory_format=torch.channels_last)
        self.images = torch.from_numpy(images).to(memory_format=torch.channels_last)
        self.labels = torch.from_numpy(labels)
        self.parameters = sum(weight.numel() for weight in network.parameters())
        self.version = f"{library_version('timm' if library == 'timm' else 'torch')}"
        if library != "timm":
            other = "torchvision" if library == "torchvision" else "timm"
            self.version += f", {other} {library_version(other)}"

    def training(self):
        network = self.network.train()
        criterion = self.torch.nn.CrossEntropyLoss()
        optimizer = self.torch.optim.SGD(network.parameters(), lr=RATE, momentum=MOMENTUM)

        def step():
            optimizer.zero_grad()
            loss = criterion(network(self.images), self.labels)
            loss.backward()
            optimizer.step()
            return loss.item()

        return step

    def inference(self):
        return self._forward(self.network.eval())

    def folded(self):
        from torch.fx.experimental.optimization import fuse

        fused = fuse(self.network.eval()).to(memory_format=self.torch.channels_last)
        return self._forward(fused)

    def _forward(self, network):
        def step():
            with self.torch.inference_mode():
                return network(self.images).numpy()

        return step


class OnnxRuntime:
    """This library's exported file."""

    def __init__(self, library: str, model: str, size: int, batch: int, onnx: str):
        import onnxruntime

        self.session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
        self.images, _ = draw(batch, size)
        self.version, self.parameters = onnxruntime.__version__, None

    def folded(self):
        feed = {self.session.get_inputs()[0].name: self.images}
        return lambda: self.session.run(None, feed)


def library_version(name: str) -> str:
    from importlib.metadata import version

    if name == "mindcv":
        import mindcv

        return mindcv.__version__
    return version(name)


if __name__ == "__main__":
    main()
