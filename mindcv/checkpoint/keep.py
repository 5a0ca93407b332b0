"""Which checkpoints of a run stay."""

from dataclasses import dataclass

from .position import Position

_MIDWAY_KEPT = 2


@dataclass(frozen=True)
class Kept:
    """One checkpoint, as the choice sees it.

    Attributes:
        place: where in the run it was taken.
        is_midway: it was taken within an epoch, for resuming only.
        score: accuracy; None: it was not evaluated.
    """

    place: Position
    is_midway: bool
    score: float | None = None


def superfluous(kept: list[Kept], policy: str, limit: int) -> list[Kept]:
    """Return those to remove; the newest one always stays, since a run goes on from it.

    Checkpoints within an epoch do not count towards the limit: two stay until the epoch is done.

    Args:
        kept: in any order.
        policy: latest_k, or top_k by score, of equals the later ones.
        limit: how many checkpoints of whole epochs to keep.
    """
    ordered = sorted(kept, key=lambda one: one.place)
    whole = [one for one in ordered if not one.is_midway]
    midway = [one for one in ordered if one.is_midway]
    done = whole[-1].place if whole else Position(0, 0)
    stale = [one for one in midway if one.place < done]
    stale += [one for one in midway if one.place > done][:-_MIDWAY_KEPT]
    if policy == "top_k":
        lowest = float("-inf")
        ranked = sorted(
            whole, key=lambda one: (lowest if one.score is None else one.score, one.place)
        )
        stale += [one for one in ranked[:-limit] if one is not ordered[-1]]
    else:
        stale += whole[:-limit]
    return stale
