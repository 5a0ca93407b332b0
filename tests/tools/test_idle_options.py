"""An option of a command that would change nothing is refused before any work."""

import pytest
from commands import call

STEP = ("plan", "--model", "regnet_x_800mf", "--step_ms", 100)
VERIFY = ("pack", "--verify", "packed")
NETWORK = ("--model", "regnet_x_200mf", "--pretrained")


@pytest.mark.parametrize(
    "words, option, remedy",
    [
        (("predict", "a.jpg", "--font", "a.ttf"), "--font", "--contact_sheet"),
        (("search", "a.jpg", "--features", "f.npz", "--font", "a.ttf", *NETWORK), "--font", "add"),
        (("card", "a.ckpt", "--force"), "--force", "--output"),
        (("design-space", "analyze", "study", "--force"), "--force", "--write"),
        (("design-space", "scale", "--factor", 2, "--force"), "--force", "--write"),
        (("pack", "photos", "packed", "--quality", 80), "--quality", "--cap"),
        ((*VERIFY, "--cap", 80), "--cap", "--verify"),
        ((*VERIFY, "--skip_bad"), "--skip_bad", "--verify"),
        ((*STEP, "--card", "910"), "--card", "--step_ms"),
        ((*STEP, "--scale_by", "macs"), "--scale_by", "--step_ms"),
        (("lr", "--steps_per_epoch", 10, "--devices", 8), "--devices", "lr_base_size"),
    ],
)
def test_an_option_that_changes_nothing_is_refused(capsys, words, option, remedy):
    code, out, err = call(capsys, *words)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: command line: {option} ") and remedy in err
