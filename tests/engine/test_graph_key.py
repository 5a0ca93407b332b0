"""Each difference that a graph can hold gives it another key, and its use none."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn

from mindcv.engine.graph_key import NoKey, graph_key


class Net(nn.Cell):
    def __init__(self, constant=1.0, layers=1, rates=(0.1,)):
        super().__init__()
        self.constant, self.rates = constant, rates
        self.layers = nn.SequentialCell([nn.Conv2d(3, 3, 1) for _ in range(layers)])

    def construct(self, x):
        return self.layers(x) * self.constant


IMAGE = Tensor(np.zeros((2, 3, 8, 8), np.float32))
PROCESS = {"versions": "2.10.0", "ranks": (0, 1)}


def key_of(cell: nn.Cell, image: Tensor = IMAGE, **process) -> str:
    return graph_key(cell, [image], PROCESS | process)[0]


def test_equal_networks_have_equal_keys_and_each_difference_another_one():
    networks = [
        Net(),
        Net(constant=2.0),
        Net(layers=2),
        Net(rates=tuple(range(200))),
        Net(rates=tuple(range(1, 201))),
        Net().set_train(),
        Net().to_float(ms.float16),
    ]
    keys = [key_of(network) for network in networks]
    keys += [key_of(Net(), Tensor(np.zeros((2, 3, 8, 9), np.float32)))]
    keys += [key_of(Net(), Tensor(np.zeros((2, 3, 8, 8), np.float16)))]
    keys += [key_of(Net(), versions="2.9.0"), key_of(Net(), ranks=(1, 2))]
    assert len(set(keys)) == len(keys) == 11
    assert key_of(Net()) == keys[0] and key_of(Net(layers=2)) == keys[2]


def test_a_network_that_was_used_keeps_its_key():
    network = Net(layers=2)
    before = key_of(network)
    network.compile(IMAGE)
    network.set_train().set_train(False)
    assert key_of(network) == before == key_of(Net(layers=2))


def test_what_nobody_can_describe_has_no_key():
    network = Net()
    network.constant = iter([1.0])
    with pytest.raises(NoKey, match="cell.constant is a builtins.list_iterator"):
        key_of(network)
    network = Net()
    network.constant = {one: Parameter(Tensor(one), name="scale") for one in (1.0, 2.0)}
    with pytest.raises(NoKey, match="is another parameter with the name 'scale'"):
        key_of(network)
