"""What the tests of options share."""

import pytest


@pytest.fixture
def launched(monkeypatch):
    """Look like one of the processes that `msrun --worker_num 8` starts."""
    monkeypatch.setenv("MS_ROLE", "MS_WORKER")
    monkeypatch.setenv("MS_WORKER_NUM", "8")
