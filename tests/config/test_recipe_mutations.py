"""A recipe damaged by a bad disk or a hasty edit soon gives a config or a ConfigError."""

import random
import resource
import time
from pathlib import Path

import pytest

from mindcv.config import Config, load_config
from mindcv.errors import ConfigError

pytestmark = pytest.mark.usefixtures("started_alone")

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "configs").rglob("*.yaml"))


@pytest.mark.parametrize("count", [200, pytest.param(2000, marks=pytest.mark.slow)])
def test_mutated_recipes_give_a_config_or_a_config_error(tmp_path, count):
    path = tmp_path / "recipe.yaml"
    recipes = [recipe.read_bytes() for recipe in SHIPPED]
    outcomes, slowest, peak = {"config": 0, "error": 0}, 0.0, peak_memory()
    for seed in range(count):
        generator = random.Random(seed)
        path.write_bytes(mutate(generator.choice(recipes), generator))
        began = time.process_time()
        try:
            assert isinstance(load_config(str(path), {"distribute": False}), Config)
            outcomes["config"] += 1
        except ConfigError as error:
            told = str(error)
            assert str(path) in told or "default: " in told or "overrides: " in told, (seed, error)
            assert error.exit_code == 2 and len(told) < 2000
            outcomes["error"] += 1
        except Exception as error:
            pytest.fail(f"seed {seed}: {type(error).__name__}: {error}")
        slowest = max(slowest, time.process_time() - began)
    print(f"{outcomes}, the slowest took {slowest:.2f} s")
    assert min(outcomes.values()) > count / 20, outcomes  # neither harmless nor all fatal
    assert slowest < 5
    assert peak_memory() - peak < 2**30  # earlier tests of this process may have needed more


def peak_memory() -> int:
    """Return the peak memory of this process so far, in bytes."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def mutate(text: bytes, generator: random.Random) -> bytes:
    """Damage a text in one to three places: bits, bytes, tokens or lines."""
    for _ in range(generator.randint(1, 3)):
        text = generator.choice(_DAMAGES)(text, generator) or b"\n"
    return text


def _flip(text: bytes, generator: random.Random) -> bytes:
    data = bytearray(text)
    data[generator.randrange(len(data))] ^= 1 << generator.randrange(8)
    return bytes(data)


def _replace(text: bytes, generator: random.Random) -> bytes:
    data = bytearray(text)
    data[generator.randrange(len(data))] = generator.choice(b"\"'[]{}&*!|>%@#:-,?\\ \t\n0e")
    return bytes(data)


def _delete(text: bytes, generator: random.Random) -> bytes:
    at = generator.randrange(len(text))
    return text[:at] + text[at + generator.randint(1, 8) :]


def _cut(text: bytes, generator: random.Random) -> bytes:
    return text[: generator.randrange(len(text))]


def _repeat_or_swap_lines(text: bytes, generator: random.Random) -> bytes:
    lines = text.splitlines(keepends=True)
    first, second = generator.randrange(len(lines)), generator.randrange(len(lines))
    if generator.random() < 0.5:
        lines.insert(first, lines[second])
    else:
        lines[first], lines[second] = lines[second], lines[first]
    return b"".join(lines)


def _another_value(text: bytes, generator: random.Random) -> bytes:
    lines = text.splitlines(keepends=True)
    at = generator.randrange(len(lines))
    key = lines[at].split(b":")[0]
    lines[at] = key + b": " + generator.choice(_VALUES) + b"\n"
    return b"".join(lines)


def _insert_token(text: bytes, generator: random.Random) -> bytes:
    at = generator.randrange(len(text))
    return text[:at] + generator.choice(_TOKENS) + text[at:]


_DAMAGES = (_flip, _replace, _delete, _cut, _repeat_or_swap_lines, _another_value, _insert_token)
_VALUES = (
    *(b"", b"null", b"-1", b"1e999", b".nan", b"0x10", b"yes", b"[1, [2]]", b"{a: 1}", b"9" * 5000),
    *(b"!!python/object/apply:os.system [id]", b"&a [*a]", b"'\xff'", b'"\\UFFFFFFFF"', b"|"),
)
_TOKENS = (
    *(b"[" * 3000, b"{a: " * 500, b"- " * 500, b"? ", b"&x ", b"*x", b"!!binary ", b"%YAML 9\n"),
    *(b"\n---\n", b"\x00", b"\xef\xbb\xbf", b"\t", b"<<: *x\n", b"# ", b"'", b'"'),
)
