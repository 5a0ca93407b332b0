"""`predict` and `export` in processes of their own."""

import os
import shutil

from commands import tiny_regnet, weights, write_checkpoint
from warm_commands import WarmCommands


def test_commands_take_a_model_of_ones_own(tmp_path, tiny_models, image_folder):
    """On a terminal of ASCII, too; MindSpore's own words do not reach it."""
    path = write_checkpoint(tmp_path / "t.ckpt", weights(1, tiny_regnet(5, se_r=0.0)))
    image = next((image_folder / "val").rglob("*.jpg"))
    shutil.copy(image, tmp_path / "ü b,c.jpg")
    (tmp_path / "cut.jpg").write_bytes(image.read_bytes()[:300])
    own = ["--import_module", tiny_models, "--ckpt_path", path]
    with WarmCommands(PYTHONIOENCODING="ascii") as commands:
        words = [*own, "--mode", "0", "--top_k", "1"]
        done = commands.run(["mindcv", "predict", "ü b,c.jpg", "cut.jpg", *words], cwd=tmp_path)
        assert done.code == 0, done.err
        of_weights, name, _, count = done.out.splitlines()
        assert of_weights.endswith("t.ckpt: the raw weights; the file holds no averaged ones")
        assert (name, count) == ("\\xfc b,c.jpg", "1 classified, 1 skipped")
        assert done.err.startswith("skipped cut.jpg: damaged image")
        assert len(done.err.splitlines()) == 1
        (tmp_path / "out").mkdir()
        done = commands.run(["mindcv", "export", *own, "--output", "out/t.mindir"], cwd=tmp_path)
        assert done.code == 0, done.err
        assert done.err == ""
    assert sorted(os.listdir(tmp_path / "out")) == ["t.mindir", "t.mindir.json"]
