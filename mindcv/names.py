"""Words: names in any case, as MindCV takes them, and nouns with a number."""

import difflib
import re
from collections.abc import Collection, Mapping


def canonical(name: str, known: Collection[str]) -> str:
    """Return the known name that equals `name` but for case; an unknown name as it is."""
    if name in known:
        return name
    return {own.lower(): own for own in known if isinstance(own, str)}.get(name.lower(), name)


def similar(name: str, known: Collection[str], elsewhere: Mapping[str, str]) -> list[str]:
    """Return the known names that an unknown one may mean: by meaning, else by spelling.

    Args:
        elsewhere: a known name -> what other programs call it, words of one text.
    """
    name = name.replace("-", "_").lower()
    close = [own for own, theirs in elsewhere.items() if own in known and name in theirs.split()]
    return close or difflib.get_close_matches(name, known, n=2, cutoff=0.6)


def plural(count: int, noun: str) -> str:
    """Return a number and its noun: 1 image, 3 images, 2 classes, 2 entries, 2 epochs."""
    if count != 1:
        noun = re.sub("y$", "ie", noun) if re.search("[^aeiou]y$", noun) else noun
        hisses = noun.endswith(("s", "ch", "sh", "x")) and noun != "epoch"
        noun += "es" if hisses else "s"
    return f"{count} {noun}"
