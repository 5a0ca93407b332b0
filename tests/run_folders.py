"""Run folders as a training leaves them, without the training."""

from pathlib import Path

from mindcv.config import Config, dump_config

HEADER = "epoch,step,train_loss,lr,val_loss,val_top1,val_top5\r\n"


def make_run(folder: Path, table: str, **options) -> Path:
    folder.mkdir(exist_ok=True)
    config = Config(model="m", data_dir="/nowhere", **options)
    (folder / "config.yaml").write_text(dump_config(config), encoding="utf-8")
    (folder / "metrics.csv").write_text(table, encoding="utf-8", newline="")
    return folder
