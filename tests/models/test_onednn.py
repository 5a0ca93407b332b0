"""On CPU, convolutions run at a fast instruction level without any action by the user."""

import os
import subprocess
import sys

import mindspore as ms
import pytest

from mindcv.process import cpu

AVX512 = "flags\t\t: fpu avx2 avx512f avx512dq avx512cd avx512bw avx512vl\n"
AVX512_PARTLY = "flags\t\t: fpu avx2 avx512f avx512cd avx512er\n"  # Xeon Phi
AVX2 = "flags\t\t: fpu avx avx2 fma\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd sve\n"


@pytest.fixture
def no_variables(monkeypatch):
    for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)


@pytest.fixture
def slow_machine(monkeypatch, no_variables):
    monkeypatch.setattr(cpu, "_has_avx512", lambda: True)
    monkeypatch.setattr(ms, "__version__", "2.10.0")


@pytest.mark.parametrize(
    "text, has", [(AVX512, True), (AVX512_PARTLY, False), (AVX2, False), (ARM, False)]
)
def test_only_a_processor_with_all_of_avx512_core_counts(tmp_path, text, has):
    (tmp_path / "cpuinfo").write_text(text)
    assert cpu._has_avx512(tmp_path / "cpuinfo") is has
    assert cpu._has_avx512(tmp_path / "missing") is False


def test_the_slow_versions_are_limited_and_the_log_says_so(slow_machine):
    line = cpu.limit_instructions("CPU")
    assert os.environ["ONEDNN_MAX_CPU_ISA"] == "AVX2"
    assert line == "oneDNN limited to AVX2 (ONEDNN_MAX_CPU_ISA, see docs/design/speed.md)"


@pytest.mark.parametrize("version", ["2.3.1", "2.7.0", "2.8.0", "2.11.0"])
def test_versions_without_the_fault_are_left_alone(slow_machine, monkeypatch, version):
    monkeypatch.setattr(ms, "__version__", version)
    assert cpu.limit_instructions("CPU") == ""
    assert "ONEDNN_MAX_CPU_ISA" not in os.environ


def test_nothing_is_set_on_an_ascend(slow_machine):
    assert cpu.limit_instructions("Ascend") == ""
    assert "ONEDNN_MAX_CPU_ISA" not in os.environ


@pytest.mark.parametrize("name", ["ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"])
def test_a_level_that_the_user_set_is_respected(slow_machine, monkeypatch, name):
    monkeypatch.setenv(name, "ALL")
    assert "ALL" in cpu.limit_instructions("CPU")
    assert os.environ[name] == "ALL"
    others = {"ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"} - {name}
    assert not others & set(os.environ)


STEP = """
import mindspore as ms, numpy as np
from mindcv.loss import create_loss
from mindcv.models import RegNet
network = RegNet(20.0, 24, 2.0, 4, 8, num_classes=4, se_r=0.25)
gradients = ms.value_and_grad(
    lambda x, y: create_loss()(network(x), y), None, network.trainable_params()
)
images, labels = ms.Tensor(np.ones((2, 3, 32, 32), "f4")), ms.Tensor([0, 1], ms.int32)
gradients(images, labels)[0].asnumpy()
"""


def test_a_program_of_ones_own_trains_without_reference_convolutions():
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_MAX_CPU_ISA")}
    done = subprocess.run(
        [sys.executable, "-c", STEP],
        env=environment | {"ONEDNN_VERBOSE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line for line in done.stdout.splitlines() if ",exec,cpu,convolution," in line]
    if not lines:
        pytest.skip("this MindSpore's oneDNN writes no trace")
    assert {"forward_training", "backward_data", "backward_weights"} <= {
        line.split(",")[line.split(",").index("convolution") + 2] for line in lines
    }
    assert not [line for line in lines if "ref" in line.split(",convolution,")[1].split(",")[0]]
