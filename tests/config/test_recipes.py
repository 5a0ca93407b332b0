"""The recipes are complete, load, and hold the values that their headers claim."""

import json
import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import yaml

from mindcv.__main__ import main
from mindcv.config import build_schedule, load_config, recipes
from mindcv.config.checks import training_contradictions
from mindcv.engine.build import build_transforms
from mindcv.engine.build_step import build_loss
from mindcv.hub import find_weights, published_weights

ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "configs" / "regnet").glob("*.yaml"))
PUBLISHED = sorted((ROOT / "configs" / "published").glob("*.yaml"))
COMPLEXITY = json.loads((ROOT / "tests" / "golden" / "complexity.json").read_text())
SIZES = "200mf 400mf 600mf 800mf 1_6gf 3_2gf 4_0gf 6_4gf 8_0gf 12gf 16gf 32gf".split()
MODELS = [f"regnet_{family}_{size}" for family in "xy" for size in SIZES]

MINDCV_COMMON = dict(
    mode=0,
    distribute=True,
    val_while_train=True,
    val_interval=1,
    log_interval=100,
    dataset="imagenet",
    shuffle=True,
    num_parallel_workers=8,
    batch_size=64,
    image_resize=224,
    scale=(0.08, 1.0),
    ratio=(0.75, 1.333),
    hflip=0.5,
    vflip=0.0,
    color_jitter=0.4,
    num_classes=1000,
    keep_checkpoint_max=10,
    ckpt_save_interval=1,
    ckpt_save_policy="latest_k",
    dataset_sink_mode=True,
    loss="CE",
    label_smoothing=0.1,
    scheduler="cosine_decay",
    min_lr=0.0,
    warmup_epochs=5,
    warmup_factor=0.01,
    opt="momentum",
    momentum=0.9,
    use_nesterov=False,
    weight_decay_filter="disable",
)
# What all but regnet_x_800mf and regnet_y_16gf share.
MINDCV_SMALL = dict(
    epoch_size=150,
    decay_epochs=145,
    lr=0.1,
    weight_decay=5e-5,
    amp_level="O2",
    loss_scale_type="auto",
    interpolation="bicubic",
    re_prob=0.1,
    re_value=0.0,
    lr_epoch_stair=False,
    auto_augment=None,
    mixup=0.0,
    cutmix=0.0,
    aug_repeats=0,
    crop_pct=0.875,
)
MINDCV = {
    "regnet_x_200mf": MINDCV_SMALL,
    "regnet_x_400mf": MINDCV_SMALL,
    "regnet_x_600mf": MINDCV_SMALL,
    "regnet_x_800mf": MINDCV_SMALL
    | dict(
        epoch_size=200,
        decay_epochs=195,
        weight_decay=1e-4,
        amp_level="O3",
        loss_scale_type="fixed",
        loss_scale=128.0,
        interpolation="bilinear",
        lr_epoch_stair=True,
    ),
    "regnet_y_200mf": MINDCV_SMALL,
    "regnet_y_400mf": MINDCV_SMALL,
    "regnet_y_600mf": MINDCV_SMALL,
    "regnet_y_800mf": MINDCV_SMALL,
    "regnet_y_16gf": MINDCV_SMALL
    | dict(
        epoch_size=350,
        decay_epochs=345,
        lr=0.2,
        weight_decay=4e-5,
        re_prob=0.25,
        re_value="random",
        auto_augment="randaug-m9-mstd0.5-inc1",
        mixup=0.8,
        cutmix=1.0,
        aug_repeats=3,
        crop_pct=0.9,
    ),
}

PYCLS_COMMON = dict(
    epoch_size=100,
    warmup_epochs=5,
    warmup_factor=0.1,
    decay_epochs=95,
    scheduler="cosine_decay",
    min_lr=0.0,
    lr_epoch_stair=True,
    opt="momentum",
    momentum=0.9,
    use_nesterov=True,
    weight_decay=5e-5,
    weight_decay_filter="disable",
    label_smoothing=0.0,
    color_jitter=None,
    lighting=0.1,
    precise_bn_samples=8192,
    auto_augment=None,
    interpolation="bilinear",
    re_prob=0.0,
    mixup=0.0,
    cutmix=0.0,
    crop_pct=0.875,
    amp_level="O0",
    loss_scale=1.0,
)
# model: (lr, images a step), from configs/dds_baselines of pycls
PYCLS = {
    "regnet_x_200mf": (0.8, 1024),
    "regnet_x_400mf": (0.8, 1024),
    "regnet_x_600mf": (0.8, 1024),
    "regnet_x_800mf": (0.8, 1024),
    "regnet_x_1_6gf": (0.8, 1024),
    "regnet_x_3_2gf": (0.4, 512),
    "regnet_x_4_0gf": (0.4, 512),
    "regnet_x_6_4gf": (0.4, 512),
    "regnet_x_8_0gf": (0.4, 512),
    "regnet_x_12gf": (0.4, 512),
    "regnet_x_16gf": (0.4, 512),
    "regnet_x_32gf": (0.2, 256),
    "regnet_y_200mf": (0.8, 1024),
    "regnet_y_400mf": (0.8, 1024),
    "regnet_y_600mf": (0.8, 1024),
    "regnet_y_800mf": (0.8, 1024),
    "regnet_y_1_6gf": (0.8, 1024),
    "regnet_y_3_2gf": (0.4, 512),
    "regnet_y_4_0gf": (0.4, 512),
    "regnet_y_6_4gf": (0.4, 512),
    "regnet_y_8_0gf": (0.4, 512),
    "regnet_y_12gf": (0.4, 512),
    "regnet_y_16gf": (0.2, 256),
    "regnet_y_32gf": (0.2, 256),
}
# MindCV's top-1 and top-5, Ascend 910; for regnet_x_800mf 910* and 910.
MINDCV_ACCURACY = {
    "regnet_x_200mf": ("68.74", "88.38"),
    "regnet_x_400mf": ("73.16", "91.35"),
    "regnet_x_600mf": ("74.34", "92.00"),
    "regnet_x_800mf": ("76.11", "93.00", "76.04", "92.97"),
    "regnet_y_200mf": ("70.30", "89.61"),
    "regnet_y_400mf": ("73.91", "91.84"),
    "regnet_y_600mf": ("75.69", "92.50"),
    "regnet_y_800mf": ("76.52", "93.10"),
    "regnet_y_16gf": ("82.92", "96.29"),
}


# torchvision's command for its IMAGENET1K_V2 weights, and the defaults of its train.py.
TORCHVISION_V2 = dict(
    batch_size=128,
    epoch_size=600,
    scheduler="cosine_decay",
    lr=0.5,
    min_lr=0.0,
    warmup_epochs=5,
    warmup_factor=0.01,
    lr_epoch_stair=True,
    opt="momentum",
    momentum=0.9,
    use_nesterov=False,
    weight_decay=2e-5,
    weight_decay_filter="norm_and_bias",
    color_jitter=None,
    auto_augment="trivialaugwide",
    aug_repeats=0,
    re_prob=0.1,
    mixup=0.2,
    cutmix=1.0,
    interpolation="bilinear",
    crop_pct=0.965,
    antialias=True,
    label_smoothing=0.1,
    ema=True,
    amp_level="O0",
    loss_scale=1.0,
)
TORCHVISION_MODELS = [row.model for row in published_weights() if row.source == "torchvision_v2"]
# torchvision/models/regnet.py links these to #new-recipe-with-fixres, the others to #new-recipe.
FIXRES = {"regnet_x_400mf_tv", "regnet_x_800mf", "regnet_x_1_6gf"}


def recipe_of(model: str) -> Path:
    return ROOT / "configs" / "regnet" / f"{model}_ascend.yaml"


def pycls_recipe_of(model: str) -> Path:
    if model in MINDCV:
        return ROOT / "configs" / "published" / f"{model}_pycls.yaml"
    return recipe_of(model)


def load(path: Path) -> dict:
    """Return the recipe's config; a dry run needs no launcher, so `distribute` stays as written."""
    return asdict(load_config(str(path), {"dry_run": True}))


def header_of(path: Path) -> str:
    lines = path.read_text(encoding="utf-8").splitlines()
    return "\n".join(lines[: lines.index("")])


def published_figures(path: Path) -> tuple[str, ...]:
    model = path.stem.removesuffix("_ascend").removesuffix("_pycls")
    if path == recipe_of(model) and model in MINDCV:
        return MINDCV_ACCURACY[model]
    row = find_weights(model, "pycls")
    return f"{row.top1:.2f}", f"{row.top5:.2f}"


def differences(config: dict, expected: dict) -> dict:
    return {key: (config[key], value) for key, value in expected.items() if config[key] != value}


def test_a_folder_of_a_recipes_name_does_not_hide_it_and_a_file_does(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()
    assert recipes.find("demo") == str(ROOT / "configs/demo.yaml")
    (tmp_path / "demo").rmdir()
    (tmp_path / "demo").write_text("lr: 1\n", encoding="utf-8")
    assert recipes.find("demo") == "demo"


@pytest.mark.parametrize(
    "words, installed, said",
    [
        (["dem"], None, "no recipe 'dem'; did you mean demo? `mindcv recipes` lists them"),
        ([], {}, "no recipe is installed"),
    ],
)
def test_a_recipe_that_is_not_there_is_told(monkeypatch, capsys, words, installed, said):
    if installed is not None:
        monkeypatch.setattr(recipes, "packaged", lambda: installed)
    with pytest.raises(SystemExit) as end:
        main(["recipes", *words])
    assert end.value.code == 2 and said in capsys.readouterr().err


def test_each_of_the_24_models_has_one_recipe():
    assert sorted(path.name for path in RECIPES) == sorted(recipe_of(m).name for m in MODELS)
    assert list(PYCLS) == MODELS
    assert len(TORCHVISION_MODELS) == 14


def test_every_recipe_augments_on_the_host_as_those_of_the_published_figures():
    for path in (ROOT / "configs").rglob("*.yaml"):
        assert load(path)["augment_on_device"] is False, path


@pytest.mark.parametrize("path", [*RECIPES, *PUBLISHED], ids=lambda path: path.stem)
def test_recipe_builds_its_augmentation_loss_and_rates(path):
    config = load_config(str(path), {"dry_run": True})
    assert build_transforms(config) and build_loss(config)
    rates = build_schedule(config, 3, 8)
    assert len(rates) == 3 * config.epoch_size and max(rates) == pytest.approx(config.lr)


@pytest.mark.parametrize("path", [*RECIPES, *PUBLISHED], ids=lambda path: path.stem)
def test_a_recipe_is_shortened_by_epoch_size_alone(path, caplog):
    whole = load_config(str(path), {"dry_run": True})
    short = replace(whole, epoch_size=2)
    assert list(training_contradictions(short)) == []
    caplog.clear()
    rates = build_schedule(short, 3)
    if whole.warmup_epochs or whole.decay_epochs:  # else the decay fills the run
        assert "ends within the warm-up" in caplog.text or "exceed 2 epochs" in caplog.text
        assert rates == build_schedule(whole, 3)[:6]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_loads_and_names_its_model(path):
    config = load_config(str(path), {"distribute": False})
    assert f"{config.model}_ascend" == path.stem
    assert config.num_classes == 1000
    assert config.warmup_epochs + config.decay_epochs == config.epoch_size


@pytest.mark.parametrize("path", [*RECIPES, *PUBLISHED], ids=lambda path: path.stem)
def test_recipe_means_the_same_to_any_yaml_reader(path):
    """Other tools read the files with PyYAML, which for example takes 5e-5 for a text."""
    plain = yaml.safe_load(path.read_text(encoding="utf-8"))
    plain = {key: tuple(v) if isinstance(v, list) else v for key, v in plain.items()}
    assert differences(load(path), plain) == {}
    numbers = {key for key, value in load(path).items() if isinstance(value, float)}
    assert {key for key in numbers & set(plain) if isinstance(plain[key], str)} == set()


@pytest.mark.parametrize("model", MINDCV)
def test_recipe_holds_mindcvs_published_values(model):
    assert differences(load(recipe_of(model)), MINDCV_COMMON | MINDCV[model]) == {}


@pytest.mark.parametrize("model", PYCLS)
def test_recipe_holds_the_values_of_the_papers_baseline(model):
    config = load(pycls_recipe_of(model))
    assert (config["model"], config["lr"], 8 * config["batch_size"]) == (model, *PYCLS[model])
    assert differences(config, PYCLS_COMMON) == {}


@pytest.mark.parametrize("model", TORCHVISION_MODELS)
def test_recipe_holds_torchvisions_newer_values(model):
    path = ROOT / "configs/published" / f"{model.removesuffix('_tv')}_torchvision_v2.yaml"
    config, header, row = load(path), header_of(path), find_weights(model, "torchvision_v2")
    assert config["model"] == model and differences(config, TORCHVISION_V2) == {}
    assert config["image_resize"] == (176 if model in FIXRES else 224)
    assert ("fixres" in header) == ("--image_resize 224" in header) == (model in FIXRES)
    assert f"# Expected: {row.top1:.3f} / {row.top5:.3f} (torchvision" in header
    # Its train.py: adjust = world_size * batch_size * model_ema_steps / epochs.
    decay_of_32_steps = 1 - (1 - 0.99998) * 8 * 128 * 32 / 600
    assert config["ema_decay"] ** 32 == pytest.approx(decay_of_32_steps, abs=1e-6)


@pytest.mark.parametrize(
    "path", [*RECIPES, *map(pycls_recipe_of, MINDCV)], ids=lambda path: path.stem
)
def test_header_is_a_lab_record(path):
    header, config = header_of(path), load(path)
    batch_size = config["batch_size"]
    is_mindcv = path == recipe_of(config["model"]) and config["model"] in MINDCV
    source = "MindCV's published recipe" if is_mindcv else "facebookresearch/pycls"
    command = (
        "msrun --bind_core=True --worker_num 8 python train.py "
        f"--config {path.relative_to(ROOT)} --data_dir /path/to/imagenet"
    )
    assert all(line.startswith("#") for line in header.splitlines())
    assert "# Source: " in header and source in header
    assert command in header
    assert f"# Devices: 8 x {batch_size} images, {8 * batch_size} a step" in header
    published = header.split("# Published accuracy: ")[1].split("# Ours: ")[0]
    assert tuple(re.findall(r"top-[15] (\d\d\.\d\d)", published)) == published_figures(path)
    assert ("MindCV's" if is_mindcv else "pycls model zoo") in published
    assert "# Ours: not run." in header


TABLE = (ROOT / "docs/recipes.md").read_text(encoding="utf-8")


def test_the_table_lists_every_recipe_once_with_its_size_and_accuracy():
    rows = re.findall(r"^\| \[(\w+)\]\(\.\./([^)]+)\) \|(.*)\|$", TABLE, flags=re.MULTILINE)
    assert sorted(ROOT / link for _, link, _ in rows) == sorted([*RECIPES, *PUBLISHED])
    for name, link, rest in rows:
        config, cells = load(ROOT / link), [cell.strip() for cell in rest.split("|")]
        published, ours, params, macs, images, epochs = cells
        if golden := COMPLEXITY.get(config["model"]):
            assert params == f"{golden['params'] / 1e6:.2f} M ({golden['params']:,})"
            assert macs == f"{golden['macs'] / 1e9:.2f} G ({golden['macs']:,})"
        assert images == f"8 x {config['batch_size']}" and int(epochs) == config["epoch_size"]
        if ROOT / link in RECIPES:
            assert tuple(re.findall(r"\d\d\.\d\d", published)) == published_figures(ROOT / link)
            assert ("MindCV" if config["model"] in MINDCV else "pycls") in published
        assert (name, ours) == (Path(link).stem, "not run")


def test_golden_complexity_covers_the_24_models():
    assert [name for name in COMPLEXITY if not name.startswith("_")][:24] == MODELS
    for name in MODELS:
        golden = COMPLEXITY[name]
        widths, groups = golden["stage_widths"], golden["stage_groups"]
        assert [w // g for w, g in zip(widths, groups)] == golden["stage_group_widths"]


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_a_recipe_of_another_library_tells_source_and_figure_and_is_listed(path):
    config, header = load_config(str(path), {"distribute": False}), header_of(path)
    assert path.stem.startswith(config.model.removesuffix("_tv"))
    assert f"--config configs/published/{path.name}" in header
    assert "# Source: " in header and "ours: not run" in header.lower()
    told = re.search(r"(?:Expected|Published accuracy): ([^;]*)", header)[1]
    (row,) = (row for row in TABLE.splitlines() if f"/{path.parent.name}/{path.name})" in row)
    figures = [re.findall(r"\d\d\.\d+", text.split("(")[0]) for text in (told, row.split("|")[2])]
    assert figures[0] == figures[1]
    assert row.split("|")[3] == " not run "
