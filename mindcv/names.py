"""Names in any case, as MindCV takes them: datasets, optimizers, losses, interpolations."""

from collections.abc import Collection


def canonical(name: str, known: Collection[str]) -> str:
    """Return the known name that equals `name` but for case; an unknown name as it is."""
    if name in known:
        return name
    return {own.lower(): own for own in known if isinstance(own, str)}.get(name.lower(), name)
