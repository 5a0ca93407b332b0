"""`python -m mindcv plan`: the published run comes back, and a CPU step takes what was planned."""

import json
import runpy
import statistics
import subprocess
import sys

import pytest
from commands import call, tiny_regnet
from conftest import ROOT

from mindcv.config import load_config
from mindcv.config.options import OPTIONS
from mindcv.design_space import SETTINGS, NetworkPlan
from mindcv.optim import OPTIMIZERS, create_optimizer
from mindcv.tools.plan import estimate
from mindcv.tools.plan.estimate import (
    KEPT_BYTES,
    PUBLISHED,
    RECIPE,
    card_memory,
    largest_map,
    optimizer_states,
    ring_seconds,
    scaled_maps,
)

GOLDEN = json.loads((ROOT / "tests/golden/complexity.json").read_text(encoding="utf-8"))
GOLDEN = {name: costs for name, costs in GOLDEN.items() if not name.startswith("_")}
RECIPES = ROOT / "configs" / "regnet"
ASCEND_PAGE = (ROOT / "docs/ascend.md").read_text(encoding="utf-8")


@pytest.fixture
def figures(capsys, tmp_path):
    """Run the command with --json; return what it wrote."""

    def run(*words) -> dict:
        code, out, err = call(capsys, "plan", *words, "--json", tmp_path / "plan.json")
        assert (code, err) == (0, "")
        found = json.loads((tmp_path / "plan.json").read_text(encoding="utf-8"))
        return found | {"text": out}

    return run


def row_of(figures: dict, devices: int) -> dict:
    return next(row for row in figures["scales"] if row["devices"] == devices)


@pytest.mark.parametrize(
    ("card", "speed", "hours"), [("910", 12_049.89, 5.906), ("910star", 10_090.66, 7.053)]
)
def test_the_published_run_comes_back(figures, card, speed, hours):
    found = figures("--model", "regnet_x_800mf", "--devices", 8, "--card", card)
    row = row_of(found, 8)
    assert row["images_per_second"] == pytest.approx(speed, rel=1e-4)
    assert (row["global_batch"], row["lr"], row["steps_per_epoch"]) == (512, 0.1, 2502)
    assert row["hours"] == pytest.approx(hours, abs=0.001)
    assert f"{speed:,.2f} images/s" in found["text"].split("ASSUMED")[0]


@pytest.mark.parametrize("row", PUBLISHED.values(), ids=PUBLISHED)
def test_published_speeds_are_those_of_the_ascend_page(row):
    card = row.card.replace("*", "\\*")
    (line,) = (line for line in ASCEND_PAGE.splitlines() if line.startswith(f"| {card} | "))
    cells = [cell.strip() for cell in line.split("|")]
    assert (cells[2], float(cells[4])) == (row.mindspore, row.step_ms)
    assert float(cells[5].replace(",", "")) == row.images_per_second
    assert 512 / row.step_ms * 1000 == pytest.approx(row.images_per_second, rel=1e-3)


def test_the_recipe_without_a_file_is_the_published_one():
    config = load_config(RECIPES / "regnet_x_800mf_ascend.yaml", rules=lambda config: ())
    assert {key: getattr(config, key) for key in RECIPE} == RECIPE


def test_a_core_decodes_what_the_benchmark_measured():
    # Any newer result of a machine like that one keeps the constant.
    path = ROOT / "benchmarks/results/pipelines.json"
    results = json.loads(path.read_text(encoding="utf-8"))
    rounds = results["tables"][0]["rows"]["recipe"]["ours, run"]
    rate = statistics.median(rounds) / int(results["machine"]["cores"])
    assert estimate.DECODE_RATE == pytest.approx(rate, rel=0.25)


@pytest.mark.parametrize("name", SETTINGS)
def test_any_model_of_the_family_is_planned(figures, name):
    found = figures("--model", name, "--batch_size", 32)
    row = found["memory_bytes"][1]
    assert row["batch_size"] == 32
    assert sum(row.values()) - 32 - row["sum"] == row["sum"]
    if name in GOLDEN:
        costs = GOLDEN[name]
        scaled = scaled_maps(SETTINGS[name].plan(), 224)
        assert row["gradients"] == 4 * costs["params"]
        each = 6 if name.startswith("regnet_z") else 4
        assert row["kept for the backward pass"] == 32 * (each * costs["acts"] + 2 * scaled)
        assert f"{costs['acts']:,}" in found["text"].split("ASSUMED")[0]


def test_maps_are_counted_by_hand():
    network = NetworkPlan(
        widths=(8, 16),
        depths=(1, 2),
        strides=(2, 2),
        bottleneck_ratios=(1.0, 1.0),
        group_widths=(8, 8),
        stem_width=4,
        se_ratio=0.25,
    )
    # Stem: 4 maps of 16 x 16; the first 1x1 convolutions: 8 of 16 x 16, 16 of 8 x 8.
    assert largest_map(network, 32) == 8 * 16 * 16
    assert scaled_maps(network, 32) == 8 * 8 * 8 + 2 * 16 * 4 * 4


def test_the_largest_batch_is_the_last_that_fits(figures):
    words = ("--model", "regnet_y_16gf", "--amp_level", "O2", "--card_memory", 32)
    largest = figures(*words)["largest_batch"]
    sums = [
        next(row["sum"] for row in figures(*words, "--batch_size", size)["memory_bytes"]
             if row["batch_size"] == size)
        for size in (largest, largest + 1)
    ]  # fmt: skip
    assert sums[0] <= 32e9 * estimate.USABLE < sums[1]
    assert figures(*words[:-1], 1)["largest_batch"] == 0


# MB that torch saves for the backward pass of an image of 224 pixels, with its image; timm 1.0 in
# training, storages counted once by `torch.autograd.graph.saved_tensors_hooks`.
SAVED_BY_TORCH = {
    "regnet_x_200mf": 17.32,
    "regnet_y_200mf": 18.81,
    "regnet_y_400mf": 33.74,
    "regnet_z_500mf": 76.25,
}


@pytest.mark.parametrize("name", SAVED_BY_TORCH)
def test_what_is_kept_for_the_backward_pass_is_what_torch_saves(name):
    parts = estimate.card_memory(SETTINGS[name].plan(), 1)
    kept = parts["kept for the backward pass"] + parts["images"]
    assert kept / 1e6 == pytest.approx(SAVED_BY_TORCH[name], rel=0.04)


@pytest.mark.parametrize(
    "name, measured", [("x_400mf", 25.2), ("y_200mf", 30.6), ("y_400mf", 58.4), ("z_500mf", 155.2)]
)
def test_an_image_more_on_a_cpu_is_what_was_measured(name, measured):
    """MB of one more image, by benchmarks/memory.py --batches 8 16."""
    one, two = (
        estimate.card_memory(SETTINGS[f"regnet_{name}"].plan(), batch, on_cpu=True)["sum"]
        for batch in (1, 2)
    )
    assert 0.85 < measured / ((two - one) / 1e6) < 1.15


@pytest.mark.parametrize("opt", OPTIMIZERS)
@pytest.mark.parametrize("use_nesterov", [False, True])
def test_states_are_those_that_the_optimizer_creates(opt, use_nesterov):
    network = tiny_regnet(5)
    weights = {parameter.name: parameter.size for parameter in network.trainable_params()}
    options = {"nesterov": True} if use_nesterov and "nesterov" in OPTIMIZERS[opt].takes else {}
    optimizer = create_optimizer(network, opt, lr=0.1, **options)
    created = sum(one.size for one in optimizer.get_parameters() if one.name not in weights)
    # Rates and step counts come on top.
    assert created // sum(weights.values()) == optimizer_states(opt, bool(options))


def test_mixed_precision_is_ordered_by_what_it_keeps():
    assert set(KEPT_BYTES) == set(OPTIONS["amp_level"].metadata["choices"])
    memory = {
        level: card_memory(SETTINGS["regnet_x_800mf"].plan(), 64, amp_level=level)["sum"]
        for level in KEPT_BYTES
    }
    assert memory["O3"] < memory["O2"] < memory["O0"] < memory["O1"] == memory["auto"]


@pytest.mark.parametrize(
    ("devices", "expected"),
    [(1, 0.0), (2, 2 * (50e6 / 1e9 + 1e-5)), (100, 198 * (1e6 / 1e9 + 1e-5))],
)
def test_a_ring_sends_each_share_twice_around(devices, expected):
    assert ring_seconds(devices, 100e6, gbit=8, latency=10) == pytest.approx(expected)


def test_scales_follow_the_recipe_and_the_options(figures):
    recipe = RECIPES / "regnet_y_16gf_ascend.yaml"
    config = load_config(recipe, rules=lambda config: ())
    words = ("--config", recipe, "--devices", 24, "--devices_per_host", 4)
    found = figures(*words, "--step_ms", 100, "--decode_rate", 50, "--image_kb", 200)
    assert [row["devices"] for row in found["scales"]] == [8, 16, 24, 32, 64, 128, 256, 512, 1024]
    row = row_of(found, 24)
    exchange = ring_seconds(24, 4 * GOLDEN["regnet_y_16gf"]["params"], gbit=100, latency=5)
    images = 24 * config.batch_size
    assert row["lr"] == pytest.approx(config.lr * 3)
    assert row["step_ms"] == pytest.approx(100 + 1000 * exchange)
    assert row["images_per_second"] == pytest.approx(images / (0.1 + exchange))
    assert (row["hosts"], row["form"]) == (6, "pack")
    host = row["images_per_second"] / 6
    assert row["images_per_second_per_host"] == pytest.approx(host)
    assert row["mb_per_second_per_host"] == pytest.approx(host * 0.2)
    assert 0 <= row["cores_per_host"] - host / 50 < 1
    known, assumed = found["text"].split("ASSUMED")
    for own in ("--step_ms", "--decode_rate", "--image_kb"):
        assert f"yours: {own}" in known
    assert "--scale_by" not in assumed


def test_steps_are_those_that_lr_counts(figures, capsys, image_folder, tmp_path):
    _, printed, _ = call(
        capsys, "lr", "--data_dir", image_folder, "--devices", 2, "--batch_size", 4,
        "--warmup_epochs", 0,
    )  # fmt: skip
    images = len(list((image_folder / "train").rglob("*.*")))
    words = ("--model", "regnet_x_200mf", "--devices", 2, "--batch_size", 4, "--images", images)
    found = figures(*words)
    assert f" of {row_of(found, 2)['steps_per_epoch']} steps" in printed
    # Images that fill no step of a scale leave it out, and the report says so.
    assert found["left_out"] and f"{found['left_out'][0]}, " in found["text"]


def test_more_images_a_step_than_were_tested_are_marked(figures):
    table = figures("--model", "regnet_x_800mf")["text"].split("\nTraining\n")[1]
    training = {line.split()[0]: line for line in table.split("\n\n")[0].splitlines()}
    assert " 1.6 " in training["128"] and " 3.2? " in training["256"]


def test_other_models_are_scaled_by_their_costs(figures):
    base, costs = GOLDEN["regnet_x_800mf"], GOLDEN["regnet_x_3_2gf"]
    exchange = [1000 * ring_seconds(8, 4 * one["params"], gbit=100, latency=5)
                for one in (base, costs)]  # fmt: skip
    for by, key in (("activations", "acts"), ("macs", "macs")):
        found = figures("--model", "regnet_x_3_2gf", "--scale_by", by)
        step = (42.49 - exchange[0]) * costs[key] / base[key] + exchange[1]
        assert row_of(found, 8)["step_ms"] == pytest.approx(step)
        assert f"step {step:.2f} ms" in found["text"].split("COMPUTED")[1]


def test_accumulated_and_averaged_gradients_take_their_place(figures, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "model: regnetx_002\nbatch_size: 16\ngradient_accumulation_steps: 4\nema: True\n"
        "lr_base_size: 256\nlr: 0.4\nopt: adamw\n",
        encoding="utf-8",
    )
    found = figures("--config", recipe, "--devices", 8, "--batch_size", 32)
    assert (found["model"], found["opt"]) == ("regnet_x_200mf", "adamw")
    row, params = row_of(found, 8), GOLDEN["regnet_x_200mf"]["params"]
    assert (row["global_batch"], row["lr"]) == (1024, 1.6)
    assert row["steps_per_epoch"] == 160_146 // 32 // 4
    assert found["memory_bytes"][0]["optimizer state"] == 4 * (2 + 2) * params


def test_an_epoch_of_some_of_the_images_has_their_steps(figures, capsys, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("model: regnetx_002\nbatch_size: 16\nnum_samples: 100000\n")
    assert row_of(figures("--config", recipe), 8)["steps_per_epoch"] == 100_000 // 16 // 8
    recipe.write_text("model: regnetx_002\nbatch_size: 16\nnum_samples: 100\n")
    code, _, err = call(capsys, "plan", "--config", recipe)
    assert code == 2 and "100 images do not fill one step of 8 devices" in err


@pytest.mark.parametrize(
    ("words", "fragments"),
    [
        (("--model", "regnet_x_801mf"), ["'regnet_x_801mf'", "did you mean regnet_x_800mf"]),
        ((), ["--model NAME is missing"]),
        (("--model", "regnet_x_200mf", "--card_memory", "0"), ["--card_memory", "'0'", "above 0"]),
        (("--model", "regnet_x_200mf", "--link_gbit", "nan"), ["--link_gbit", "'nan'"]),
        (("--model", "regnet_x_200mf", "--link_gbit", "1"), ["42.49 ms", "--step_ms"]),
        (("--model", "regnet_x_200mf", "--images", "9"), ["9 images", "8 devices", "--batch_size"]),
        (("--model", "regnet_x_200mf", "--json", "/no/x"), ["--json /no/x cannot be written"]),
        (("--config", "no.yaml"), ["no.yaml", "cannot be read"]),
    ],
)
def test_a_mistake_is_answered_in_one_line(capsys, words, fragments):
    code, out, err = call(capsys, "plan", *words)
    assert code == 2 and err.count("\n") == 1 and err.startswith("error: ")
    assert "--import_module" not in err
    for fragment in fragments:
        assert fragment in err


def test_figures_are_written_into_what_is_there(capsys, tmp_path):
    (tmp_path / "link.json").symlink_to("file.json")
    words = ("plan", "--model", "regnet_x_200mf", "--json")
    assert call(capsys, *words, tmp_path / "link.json")[0] == 0
    assert json.loads((tmp_path / "file.json").read_text())["model"] == "regnet_x_200mf"


def test_an_image_that_is_not_square_is_refused(capsys, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("model: regnet_x_200mf\nimage_resize: [192, 256]\n", encoding="utf-8")
    code, _, err = call(capsys, "plan", "--config", recipe)
    assert code == 2 and "(192, 256)" in err and "--image_size N" in err
    assert call(capsys, "plan", "--config", recipe, "--image_size", 224)[0] == 0


def test_the_command_imports_no_mindspore():
    code = (
        "import sys; from mindcv.__main__ import main; main(sys.argv[1:]); "
        "sys.exit('mindspore' in sys.modules)"
    )
    words = ["plan", "--model", "regnet_x_800mf"]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "12,050 images/s" in done.stdout


@pytest.mark.slow
def test_a_step_on_cpu_takes_the_memory_that_was_planned(tmp_path):
    out = tmp_path / "memory.json"
    words = [sys.executable, ROOT / "benchmarks/memory.py", "--batches", "8", "16", "--json", out]
    done = subprocess.run([*map(str, words)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *_, growth = json.loads(out.read_text(encoding="utf-8"))
    # What libraries and compiling take is in no growth; the workspace is assumed on the safe side.
    assert 0.8 < growth["measured"] / growth["planned"] < 1.05


MSRUN = """#!/bin/sh
for word; do
  case $word in
    --worker_num=*) workers=${word#*=} ;;
    --ckpt_save_dir=*) folder=${word#*=} ;;
    --num_samples=*) samples=${word#*=} ;;
  esac
done
mkdir "$folder"
echo "done in 0:00:09, $((workers * 40 + 10)) images/s in training" \
  > "$folder/train.log"
test "$samples" = $((workers * 8))
"""


def test_weak_scaling_compares_the_same_images_per_worker(monkeypatch, tmp_path, capsys):
    """With an msrun that only writes a log, since two workers are timed on a quiet machine only."""
    msrun = tmp_path / "msrun"
    msrun.write_text(MSRUN, encoding="utf-8")
    msrun.chmod(0o755)
    (tmp_path / "photos/train/cat").mkdir(parents=True)
    for number in range(16):
        (tmp_path / f"photos/train/cat/{number}.jpg").touch()
    words = ["weak_scaling.py", str(tmp_path / "photos"), "--batch", "4", "--steps", "2"]
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(sys, "argv", words)
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    script = runpy.run_path(str(ROOT / "benchmarks/weak_scaling.py"))
    script["main"]()
    printed = capsys.readouterr().out
    assert "| two workers | 90 | 90 … 90 | 1.80 |" in printed
    assert "| two runs of one worker | 100 | 100 … 100 | 2.00 |" in printed
    monkeypatch.setattr(sys, "argv", [*words, "--rounds", "1", "--batch", "5"])
    with pytest.raises(SystemExit, match="16 images; 20 are needed"):
        script["main"]()
    sys.modules.pop("sides")
