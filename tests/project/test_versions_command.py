""".ci/versions.py: what it runs exists, and what it writes is a table in the order of versions."""

import runpy

import pytest
from conftest import ROOT

COMMAND = runpy.run_path(str(ROOT / ".ci" / "versions.py"))


def test_the_core_tests_exist_and_the_pin_admits_the_versions():
    for name in COMMAND["CORE"]:
        file, _, test = name.partition("::")
        assert f"def {test}" in (ROOT / "tests" / file).read_text(encoding="utf-8")
    pin = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    assert "mindspore>=2.3.1,<2.11\n" in pin
    assert (COMMAND["VERSIONS"][0], COMMAND["VERSIONS"][-1]) == ("2.3.1", "2.10.0")


@pytest.fixture
def table(tmp_path, monkeypatch):
    path = tmp_path / "versions.md"
    path.write_text(f"before\n\n{COMMAND['HEAD']}\n|---|\n\nafter\n", encoding="utf-8")
    monkeypatch.setitem(COMMAND["write_rows"].__globals__, "TABLE", path)
    return path


def test_a_row_replaces_that_of_its_version_and_the_others_stay_in_order(table):
    result = COMMAND["Result"]
    for version, failed in (("2.10.0", 0), ("2.7.0", 3), ("2.9.0", 0), ("2.7.0", 0)):
        row = result(version, "core", 5, failed, 1, 2.04).row("abc")
        COMMAND["write_rows"]({version: row})
    head, rule, *rows = table.read_text(encoding="utf-8").split("\n\n")[1].splitlines()
    assert (head, rule) == (COMMAND["HEAD"], "|---|")
    assert [row.split(" | ")[0] for row in rows] == ["| 2.7.0", "| 2.9.0", "| 2.10.0"]
    assert rows[0].split(" | ")[2:7] == ["core", "5", "0", "1", "2.0"]
    assert {row.count("|") for row in (head, *rows)} == {10}
    assert table.read_text(encoding="utf-8").endswith("\n\nafter\n")


def test_a_version_that_cannot_be_installed_has_a_row_that_says_so(table):
    row = COMMAND["Result"]("2.3.1", reason="not installed: no wheel for this Python").row("abc")
    COMMAND["write_rows"]({"2.3.1": row})
    assert "| not installed: no wheel for this Python | – |" in table.read_text(encoding="utf-8")
    assert row.count("|") == 10


def test_failures_and_errors_of_a_report_count_as_failed(tmp_path):
    report = tmp_path / "tests.xml"
    counts = 'tests="9" failures="1" errors="2" skipped="1" time="90.0"'
    report.write_text(f"<testsuites><testsuite {counts}/></testsuites>", encoding="utf-8")
    found = COMMAND["_read"](report, "2.7.0", "core")
    assert (found.passed, found.failed, found.skipped, found.minutes) == (5, 3, 1, 1.5)
    missing = COMMAND["_read"](tmp_path / "none.xml", "2.7.0", "core")
    assert missing.failed == 1 and missing.reason == "pytest did not finish"
