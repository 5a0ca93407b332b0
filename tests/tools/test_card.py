"""`card`: what a checkpoint and its run folder say of a model, as Markdown."""

import re

from commands import call, other_metadata, registered, tiny_regnet, weights, write_checkpoint

from mindcv.config import Config, dump_config


def test_a_card_says_what_the_checkpoint_and_its_run_folder_do(capsys, tmp_path):
    values, names = weights(1), ("ant", "a|b", "<i>", "*dog*", "e_f")
    path = write_checkpoint(tmp_path / "tiny-2_8.ckpt", values, other_metadata(class_names=names))
    with registered(tiny_regnet):
        code, alone, err = call(capsys, "card", path)
        assert (code, err) == (0, "") and "Training options" not in alone
        config = Config(
            model="tiny_regnet",
            lr=0.25,
            data_dir="/secret/place",
            opt="lamb",
            resume="/secret/x.ckpt",
        )
        (tmp_path / "config.yaml").write_text(dump_config(config), encoding="utf-8")
        table = "epoch,step,train_loss,lr,val_loss,val_top1\n1,4,2,1,2,10.0\n2,8,2,1,2,62.5\n"
        (tmp_path / "metrics.csv").write_text(table, encoding="utf-8")
        assert call(capsys, "card", path, "--output", tmp_path / "card.md")[0] == 0
        assert call(capsys, "card", path, "--output", tmp_path / "card.md")[0] == 2  # --force
        code, _, err = call(capsys, "card", path, "--ema")
        assert code == 5 and "holds no averaged weights" in err
    text = (tmp_path / "card.md").read_text(encoding="utf-8")
    facts = dict(re.findall(r"^\| (.+?) \| (.+) \|$", text, re.M))
    trained = sum(value.size for name, value in values.items() if "moving_" not in name)
    assert facts["parameters"] == f"{trained:,}" and facts["interpolation"] == "bicubic"
    assert facts["file"] == "tiny-2_8.ckpt, the raw weights"
    assert facts["top-1 on the validation images"] == "62.500 %"
    assert facts["trained until epoch"] == "2"
    assert (facts["`lr`"], facts["`opt`"]) == ("0.25", "lamb")
    assert "/secret" not in text and "`batch_size`" not in facts
    assert r"ant; a\|b; \<i\>; \*dog\*; e_f" in text


def test_a_file_that_names_no_model_gets_a_card_by_the_copy_that_the_error_proposes(
    capsys, tmp_path
):
    old, copy = write_checkpoint(tmp_path / "old.ckpt", weights(1), None), tmp_path / "copy.ckpt"
    with registered(tiny_regnet):
        code, _, err = call(capsys, "card", old)
        assert code == 5 and "mindcv convert FILE COPY.ckpt --model NAME" in err
        assert call(capsys, "convert", old, copy, "--model", "tiny_regnet")[0] == 0
        code, text, _ = call(capsys, "card", copy)
        several = write_checkpoint(copy, weights(1), other_metadata(task="multi_label"))
        _, other, _ = call(capsys, "card", several)
    assert code == 0 and "# tiny_regnet" in text and "| classes | 5 |" in text
    assert "| classes | 5, none or several in an image |" in other
