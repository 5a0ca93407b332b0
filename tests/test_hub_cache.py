"""The cache of published weights: where files are, and that a wrong one is never used."""

import hashlib
import json
import logging
import os
import random
import zipfile
from pathlib import Path

import pytest

from mindcv.cache_folder import cache_folder
from mindcv.errors import ConfigError, WeightsError
from mindcv.hub import PublishedWeights, fetch
from mindcv.hub.cache import place_of
from mindcv.hub.https import Origin, request_for
from mindcv.hub.part import Part

CONTENT = b"some weights"
TORCH_START = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # torch's magic number
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


@pytest.mark.parametrize("part", ["regnet_x_200mf", "regnet_x_200mf/test"])
def test_a_link_in_place_of_a_folder_of_the_cache_is_told(cache, tmp_path, monkeypatch, part):
    place = put(weights(), CONTENT)
    outside = (cache / part).rename(tmp_path / "outside")
    (cache / part).symlink_to(outside)
    for offline in ("1", "0"):
        monkeypatch.setenv("MINDCV_OFFLINE", offline)
        with pytest.raises(WeightsError, match=f"{part}: it is a symbolic link"):
            fetch(weights())
    assert not list(outside.rglob("*.lock"))
    (cache / part).unlink()
    outside.rename(cache / part)
    assert fetch(weights()) == place


@pytest.mark.parametrize(
    "name, sha256", [("net.pth", DIGEST), ("net.pth", None), ("net.pth.sha256", None)]
)
def test_a_link_or_pipe_in_place_of_a_file_of_the_cache_is_told(tmp_path, name, sha256):
    row = weights(sha256=sha256)
    path = put(row, TORCH_START).with_name(name)
    path.unlink(missing_ok=True)
    outside = tmp_path / "outside"
    outside.write_bytes(CONTENT)
    path.symlink_to(outside)
    with pytest.raises(WeightsError, match="it is a symbolic link"):
        fetch(row)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(WeightsError, match="it is no regular file"):
        fetch(row)
    assert outside.read_bytes() == CONTENT


def note(**changes) -> str:
    return json.dumps({"url": URL, "validator": '"tag"', "length": 100, **changes})


NOTES = {
    "line break": note(validator='"tag"\r\nHost: evil'),
    "other alphabet": note(validator='"täg"'),
    "number": note(validator=7),
    "list": note(validator=["x"]),
    "length as text": note(length="100"),
    "length of a fraction": note(length=99.5),
    "endless": note(length=1e999),
    "nothing": note(validator=None),
    "more keys": note(more=1),
    "deep": "[" * 30_000,
    "long": note(validator="x" * 70_000),
    "no text": "\ud800",
    "empty": "",
}


@pytest.mark.parametrize("kind", [*NOTES, "link", "pipe"])
def test_a_note_that_cannot_be_continued_from_is_none(tmp_path, kind):
    part = Part(tmp_path / "net.pth.part", URL)
    part.path.write_bytes(CONTENT)
    place = tmp_path / "net.pth.part.json"
    place.write_text(note())
    assert part.kept()[0] == len(CONTENT)
    place.unlink()
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "link":
        (tmp_path / "outside").write_text(note())
        place.symlink_to(tmp_path / "outside")
    else:
        place.write_text(NOTES[kind], encoding="utf-8", errors="surrogatepass")
    assert part.kept() == (0, None)
    os.close(part.begin(Origin(URL, '"tag"', 100)))  # begins anew, and is at once in order
    part.path.write_bytes(CONTENT)
    assert part.kept() == (len(CONTENT), Origin(URL, '"tag"', 100))


@pytest.mark.parametrize("rounds", [150, pytest.param(5_000, marks=pytest.mark.slow)])
def test_a_mutated_note_makes_a_request_or_none(tmp_path, rounds):
    """What is continued from makes one line of a request, and no more."""
    part, counts = Part(tmp_path / "net.pth.part", URL), {True: 0, False: 0}
    part.path.write_bytes(CONTENT)
    for seed in range(rounds):
        rng, text = random.Random(seed), list(note())
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(text))
            text[at : at + rng.randrange(3)] = rng.choice(["\\r\\n", '"', "\\u0000", "é", "9", "{"])
        (tmp_path / "net.pth.part.json").write_text("".join(text), encoding="utf-8")
        size, origin = part.kept()
        counts[origin is not None] += 1
        if origin:
            header = request_for(URL, size, origin).get_header("If-range")
            assert header.isascii() and header.isprintable()
    assert all(counts.values())


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
    place = put(old, TORCH_START)
    assert fetch(old) == place
