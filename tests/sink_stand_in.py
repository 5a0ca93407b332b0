"""The data sink on a CPU: importing this lets `Model.train` take the path that it takes on Ascend.

MindSpore's own code runs but for three names of `mindspore.train.model`: what tells the device, the
helper that sends batches to it, and the network that receives them there. In place of that one, a
single call trains on all batches of an epoch and returns the outputs for the last one. As a device
does, it takes some batches of the next epoch early.

STOP=SIGTERM:N in the environment sends the process a signal within its N-th step.
"""

import itertools
import logging
import os
import signal
from collections import deque

import mindspore as ms
from mindspore import nn
from mindspore.train import model

from mindcv import engine

AHEAD = 2  # batches of the next epoch that are taken before it begins

_logger = logging.getLogger("mindcv.train")
_steps = itertools.count(1)


class Context:
    """In place of `mindspore.context`: the device is an Ascend."""

    def __getattr__(self, name):
        return getattr(ms.context, name)

    @staticmethod
    def get_context(key):
        return "Ascend" if key == "device_target" else ms.get_context(key)


class Helper:
    """In place of `mindspore.DatasetHelper`, for the sink."""

    def __init__(self, dataset, sink_size: int, epochs: int):
        self.size, self.waiting = sink_size, deque()
        rows = dataset.create_tuple_iterator(num_epochs=epochs)
        self.batches = itertools.chain.from_iterable(itertools.repeat(rows, epochs))

    def __iter__(self):
        return iter([()])  # one call of the network an epoch

    def sink_size(self) -> int:
        return self.size

    def epoch(self):
        """Yield the batches of an epoch; then take the first ones of the next."""
        for _ in range(self.size):
            yield self.waiting.popleft() if self.waiting else next(self.batches)
        self.waiting.extend(itertools.islice(self.batches, AHEAD))

    def continue_send(self):
        _logger.info("stand-in: continue_send")

    def stop_send(self):
        _logger.info("stand-in: stop_send")

    def release(self):
        _logger.info("stand-in: release")


class OnDevice(nn.Cell):
    """In place of the network that `connect_network_with_dataset` returns."""

    def __init__(self, network: nn.Cell, helper: Helper):
        super().__init__(auto_prefix=False)
        self.network, self.helper = network, helper

    def __call__(self):
        _logger.info("stand-in: an epoch in one call")
        for batch in self.helper.epoch():
            _signal_in_time()
            outputs = self.network(*batch)
        return outputs


class Step(engine.TrainStep):
    """The step of runs without the sink knows STOP as well; in a graph it is not called so."""

    def __call__(self, *batch):
        _signal_in_time()
        return super().__call__(*batch)


def _signal_in_time():
    name, _, number = os.environ.get("STOP", "").partition(":")
    if str(next(_steps)) == number:
        os.kill(os.getpid(), getattr(signal, name))


model.context = Context()
model.DatasetHelper = lambda dataset, _, sink_size, epochs: Helper(dataset, sink_size, epochs)
engine.TrainStep = Step
model.connect_network_with_dataset = OnDevice
engine.uses_sink = lambda dataset_sink_mode, runtime: dataset_sink_mode
