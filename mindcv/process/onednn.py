"""Keep MindSpore's CPU convolutions off oneDNN's slow reference code.

MindSpore passes activations and weights to oneDNN in plain layout (NCHW, OIHW). From oneDNN 3.10,
which MindSpore 2.9 and 2.10 contain, a processor with AVX-512 gets `jit_uni_ncsp` for these: it
reorders the activations to NHWC and takes the next best convolution. With weights in plain layout
that is `ref:any`, unless the convolution is a matrix product (1x1, stride 1, one group). A RegNet
then trains at a fourteenth of its speed; `ONEDNN_VERBOSE=1` prints `jit_uni_ncsp:conv+ref:any`. At
AVX2 the same convolutions run as `gemm:jit`.

Source: oneDNN's `src/cpu/x64/jit_uni_ncsp_convolution.cpp`, which requires avx512_core. Its
maintainers advise weights of format `any` for every layout of activations (uxlfoundation/oneDNN,
issues 1132 and 1409), which MindSpore's kernel does not use.
"""

import os
from pathlib import Path

VARIABLE = "ONEDNN_MAX_CPU_ISA"
_OLD_VARIABLE = "DNNL_MAX_CPU_ISA"  # oneDNN reads either
_LEVEL = "AVX2"  # AVX2_VNNI and AVX2_VNNI_2 are as fast; AVX and SSE41 are slower
_SLOW_VERSIONS = ("2.9", "2.10")  # of MindSpore; the older oneDNNs of 2.7 and 2.8 are not slow


def limit_instructions(device_target: str) -> str:
    """Limit oneDNN to AVX2 where its AVX-512 convolutions are slow; return a line for the log.

    Call it before the first convolution of the process; child processes inherit the limit. A user's
    own value stays. The line is empty if nothing is limited, as on any device but CPU.
    """
    import mindspore as ms  # callers have imported it; nothing else here needs it

    if device_target != "CPU" or not (_is_slow(ms.__version__) and _has_avx512()):
        return ""
    if not (os.environ.get(VARIABLE) or os.environ.get(_OLD_VARIABLE)):
        os.environ[VARIABLE] = _LEVEL
    level = os.environ.get(VARIABLE) or os.environ[_OLD_VARIABLE]
    return f"oneDNN limited to {level} ({VARIABLE}, see docs/design/speed.md)"


def _is_slow(mindspore_version: str) -> bool:
    return ".".join(mindspore_version.split(".")[:2]) in _SLOW_VERSIONS


def _has_avx512(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:  # oneDNN's avx512_core
    try:
        flags = next(line for line in cpuinfo.open() if line.startswith("flags")).split()
    except (OSError, StopIteration):  # not Linux, or not x86
        return False
    return {"avx512f", "avx512bw", "avx512vl", "avx512dq"} <= set(flags)
