"""What counts as a deprecation warning, and how the table of accepted ones is kept."""

import pytest
from deprecations import accepted, check_deprecations

KNOWN = "serialization.py:155: DeprecationWarning: getName() is deprecated"
NEW = "[WARNING] ME(1:1,MainProcess) [context.py:1] 'a' will be deprecated and removed in a future"


def test_a_log_with_the_listed_warnings_only_is_accepted():
    log = "epoch 1/3 loss 2.0\n" + "".join(f"/x/{one} and more\n" for one in accepted("2.10.0"))
    assert "getName() is deprecated" in log
    check_deprecations(log, "2.10.0")
    check_deprecations("epoch 1/3 loss 2.0", "0.0.0")


@pytest.mark.parametrize(
    "line", [NEW, "a.py:1: FutureWarning: f is obsolete", "[WARNING] x will be removed"]
)
def test_a_new_warning_fails_and_is_quoted(line):
    with pytest.raises(AssertionError, match="does not list") as found:
        check_deprecations(f"{KNOWN}\n{line}", "2.10.0")
    assert line in str(found.value)


def test_a_warning_that_is_not_given_any_more_fails():
    assert accepted("2.10.0")
    with pytest.raises(AssertionError, match=r"does not warn any more .*getName"):
        check_deprecations("epoch 1/3 loss 2.0", "2.10.0")
