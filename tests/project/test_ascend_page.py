"""docs/ascend.md: the commands are understood, figures and log lines are those of the code."""

import re
import shlex

import mindspore as ms
import pytest
from conftest import ROOT
from mindspore.parallel.cluster.run import get_args

from mindcv import create_model
from mindcv.config import (
    build_schedule,
    evaluation_contradictions,
    parse_arguments,
    training_contradictions,
)
from mindcv.design_space import SETTINGS
from mindcv.design_space.complexity import complexity
from mindcv.engine import Runtime, describe_model, describe_schedule

PAGE = (ROOT / "docs/ascend.md").read_text(encoding="utf-8")
COMMANDS = [
    line.strip()
    for block in re.findall(r"```bash\n(.*?)```", PAGE, re.S)
    for line in block.strip().splitlines()
]
OWN = [line for line in COMMANDS if ".py" in line]
RULES = {"train.py": training_contradictions, "validate.py": evaluation_contradictions}


def parsed(line: str, device: str):
    """Return what msrun (None: no msrun) and the command make of a line."""
    words, launch = shlex.split(line.replace("Ascend", device)), None
    if "msrun" in words:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.argv", words[words.index("msrun") :])
            launch = get_args()
        words = [launch.task_script, *launch.task_script_args]
    script, *options = words[words.index("python") + 1 :]
    return launch, parse_arguments(script, "", RULES[script], options)


@pytest.mark.parametrize("device", ["Ascend", "CPU"])
@pytest.mark.parametrize("line", OWN)
def test_a_command_is_understood_by_msrun_and_by_ours(line, device, monkeypatch, started_alone):
    monkeypatch.chdir(ROOT)
    if "msrun" in line:
        monkeypatch.setenv("MS_ROLE", "MS_WORKER")
    launch, config = parsed(line, device)
    assert config.device_target == device and config.mode == ms.GRAPH_MODE
    if launch:
        hosts = 1 if launch.node_rank == -1 else 2
        assert launch.join and launch.worker_num == launch.local_worker_num * hosts
    if "imagenet" in line:  # the images a step of the recipe
        assert launch.worker_num * config.batch_size == 512 and config.distribute
        monkeypatch.delenv("MS_ROLE")  # "Without msrun, --dry_run …"
        assert parsed(line[line.index("python") :] + " --dry_run", device)[1].dry_run


def test_no_other_command_is_ours():
    others = {line.split()[0] for line in COMMANDS if line not in OWN}
    assert len(OWN) == 6 and others == {"npu-smi", "pip", "python", "source"}


def test_the_log_lines_are_those_that_train_writes(monkeypatch, started_alone):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(ms, "__version__", "2.10.0")
    _, config = parsed(OWN[0], "CPU")
    rates = build_schedule(config, 125)
    network = create_model(config.model, num_classes=10)
    lines = [
        Runtime("CPU", 0, "O1", 0, 1).describe(),
        *describe_model(config.model, network, config.image_resize),
        *describe_schedule(rates, 125),
    ]
    for line in lines:
        assert f"\n{line}\n" in PAGE or f"\n{line}, oneDNN" in PAGE
    assert f"`{Runtime('Ascend', 0, 'O2', 0, 1).describe()}`" in PAGE
    assert Runtime("Ascend", 0, "O2", 0, 8).describe().endswith("8 processes")


def test_the_memory_is_what_the_counts_give():
    rows = re.findall(r"\| (regnet_\w+) \| (\S+) GB \| (\S+) to (\S+) GB \|", PAGE)
    assert len(rows) == 4
    for name, state, least, most in rows:
        costs = complexity(SETTINGS[name].plan(), 224)
        gigabytes = 12 * costs.params / 1e9, 128 * costs.activations / 1e9
        expected = (*gigabytes, 3 * gigabytes[1])
        for text, value in zip((state, least, most), expected):
            assert float(text) == pytest.approx(value, abs=0.051 if value > 0.9 else 0.006)


def test_every_source_is_named_and_every_name_used():
    named = set(re.findall(r"^\[(\w+)\]: https://", PAGE, re.M))
    assert named == set(re.findall(r"\]\[(\w+)\]", PAGE))
    headings = {
        re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^#+ (.*)$", PAGE, re.M)
    }
    assert headings >= set(re.findall(r"\]\(#([\w-]+)\)", PAGE))
