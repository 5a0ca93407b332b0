"""The cache of published weights: where files are, and that a wrong one is never used."""

import hashlib
import json
import logging
import os
import zipfile
from pathlib import Path

import pytest

from mindcv.errors import ConfigError, WeightsError
from mindcv.hub import PublishedWeights, cache_folder, fetch
from mindcv.hub.cache import place_of

CONTENT = b"some weights"
DIGEST = hashlib.sha256(CONTENT).hexdigest()
URL = "https://example.org/models/net.pth"  # never asked: there is no network in these tests


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("MINDCV_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MINDCV_OFFLINE", "1")
    return tmp_path / "cache"


def weights(url: str = URL, sha256: str | None = DIGEST, **more) -> PublishedWeights:
    return PublishedWeights("regnet_x_200mf", "test", url, sha256, **more)


def put(row: PublishedWeights, content: bytes) -> Path:
    """Put the file where the message of an offline machine says."""
    with pytest.raises(WeightsError) as caught:
        fetch(row)
    place = Path(str(caught.value).rsplit("put it here: ", 1)[1])
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)
    return place


def safetensors(size: int = 8, header: dict | None = None) -> bytes:
    header = header or {"fc.bias": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    return len(text).to_bytes(8, "little") + text + bytes(size)


@pytest.mark.parametrize(
    "variables, folder",
    [
        ({"MINDCV_CACHE": "/a/b", "XDG_CACHE_HOME": "/c"}, "/a/b"),
        ({"MINDCV_CACHE": "~/w", "XDG_CACHE_HOME": "/c"}, "/home/me/w"),
        ({"MINDCV_CACHE": "", "XDG_CACHE_HOME": "/c"}, "/c/mindcv"),
        ({"XDG_CACHE_HOME": "relative"}, "/home/me/.cache/mindcv"),
        ({}, "/home/me/.cache/mindcv"),
    ],
)
def test_the_environment_chooses_the_folder(monkeypatch, variables, folder):
    for name in ("MINDCV_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "/home/me", **variables}.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == Path(folder)


@pytest.mark.parametrize(
    "url, name",
    [
        ("https://h/a/../../etc/passwd", "passwd"),
        ("https://h/a/%2e%2e/%2e%2e/net.pth", "net.pth"),
        ("https://h/%2e%2e%2f%2e%2e%2fnet.pth", "net.pth"),
        ("https://h/%252e%252e%252fnet.pth", "_2e_2e_2fnet.pth"),
        ("https://h/..%5c..%5cnet.pth", "net.pth"),
        ("https://h/net.pth?file=../../evil", "net.pth"),
        ("https://h/.bashrc", "bashrc"),
        ("https://h/a%00b%0a c.pth", "a_b__c.pth"),
    ],
)
def test_no_address_leads_out_of_the_cache(cache, url, name):
    assert place_of(weights(url)) == cache / "regnet_x_200mf/test" / name


@pytest.mark.parametrize("url", ["https://h/", "https://h/..", "https://h/%2e%2e", "https://h/a/."])
def test_an_address_without_a_file_name_is_refused(url):
    with pytest.raises(WeightsError, match="is no file name"):
        place_of(weights(url))


def test_neither_model_nor_source_leads_out_of_the_cache(cache):
    row = PublishedWeights("../../model", "/etc", URL, DIGEST)
    assert place_of(row) == cache / "_.._model/_etc/net.pth"


def test_offline_tells_address_and_place_and_takes_a_file_put_there():
    with pytest.raises(WeightsError, match=f"MINDCV_OFFLINE is set\n  address: {URL}"):
        fetch(weights())
    place = put(weights(), CONTENT)
    assert fetch(weights()) == place


def test_a_doubtful_wish_to_be_offline_is_refused(monkeypatch):
    monkeypatch.setenv("MINDCV_OFFLINE", "perhaps")
    with pytest.raises(ConfigError, match="MINDCV_OFFLINE: expected 1 or 0, got 'perhaps'"):
        fetch(weights())


def test_a_wrong_file_in_the_cache_is_told_with_both_hashes_and_kept():
    place = put(weights(), b"other weights")
    with pytest.raises(WeightsError, match=f"expected {DIGEST}") as caught:
        fetch(weights())
    message = str(caught.value)
    assert hashlib.sha256(b"other weights").hexdigest() in message
    assert f"delete {place}" in message and URL in message
    assert place.read_bytes() == b"other weights"


def test_published_digits_are_compared_with_the_start_of_the_hash():
    put(weights(), CONTENT)
    fetch(weights(sha256=DIGEST[:8]))
    with pytest.raises(WeightsError, match="expected 01234567…"):
        fetch(weights(sha256="01234567"))


def test_a_cache_that_cannot_be_written_serves_what_it_holds(cache):
    place = put(weights(), CONTENT)
    for folder in (place.parent, cache):
        folder.chmod(0o555)
    try:
        assert fetch(weights()) == place
        assert os.listdir(place.parent) == ["net.pth"]  # no lock, no record
    finally:
        for folder in (cache, place.parent):
            folder.chmod(0o755)


def test_without_a_known_hash_the_first_one_is_recorded_and_must_stay(caplog):
    row = weights("https://h/model.safetensors", None)
    first, second = safetensors(), safetensors()[:-1] + b"!"
    place = put(row, first)
    with caplog.at_level(logging.WARNING):
        assert fetch(row) == place
    assert "no published hash of https://h/model.safetensors is known" in caplog.text
    record = place.with_name("model.safetensors.sha256")
    assert record.read_text() == f"{hashlib.sha256(first).hexdigest()}  model.safetensors\n"
    caplog.clear()
    fetch(row)
    assert caplog.text == ""
    place.write_bytes(second)
    with pytest.raises(WeightsError, match="has changed") as caught:
        fetch(row)
    assert all(hashlib.sha256(each).hexdigest() in str(caught.value) for each in (first, second))
    assert place.read_bytes() == second


def test_a_damaged_record_is_told():
    row = weights("https://h/model.safetensors", None)
    place = put(row, safetensors())
    place.with_name("model.safetensors.sha256").write_text("nonsense")
    with pytest.raises(WeightsError, match="holds no SHA-256"):
        fetch(row)


@pytest.mark.parametrize(
    "name, content, fault",
    [
        ("a.safetensors", safetensors(7), "bytes, the header tells"),
        ("a.safetensors", safetensors(9), "bytes, the header tells"),
        ("a.safetensors", b"\xff" * 40, "header is longer than the file"),
        ("a.safetensors", (4).to_bytes(8, "little") + b"{no}", "header cannot be read"),
        ("a.safetensors", (2).to_bytes(8, "little") + b"{}", "header cannot be read"),
        ("a.safetensors", b"", "header cannot be read"),
        ("a.pyth", b"PK\x03\x04 cut off", "no torch file begins with"),
        ("a.pth", b"version https://git-lfs.github.com/spec/v1\n", "no torch file begins with"),
        ("a.pth", b"\n <!DOCTYPE HTML><p>Not found", "it is a web page"),
        ("a.ckpt", b"<html>", "it is a web page"),
    ],
)
def test_without_a_known_hash_the_structure_must_be_right(name, content, fault):
    row = weights(f"https://h/{name}", None)
    place = put(row, content)
    with pytest.raises(WeightsError, match=fault):
        fetch(row)
    assert os.listdir(place.parent) == [name]


def test_without_a_known_hash_the_size_must_fit_the_parameters():
    row = weights("https://h/model.safetensors", None, params=2.68)
    put(row, safetensors())
    with pytest.raises(WeightsError, match="bytes are too few for 2.68 million parameters"):
        fetch(row)


def test_without_a_known_hash_torch_files_of_both_kinds_are_taken():
    new, old = (weights(f"https://h/{name}.pyth", None) for name in ("new", "old"))
    place = put(new, b"")
    with zipfile.ZipFile(place, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02.")
    assert fetch(new) == place
    place = put(old, b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.")  # torch's magic number
    assert fetch(old) == place
