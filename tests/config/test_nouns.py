"""Nouns with their number, and what an unknown name may mean."""

import pytest

from mindcv.names import plural, similar


@pytest.mark.parametrize(
    "noun, several",
    [
        ("image", "images"),
        ("class", "classes"),
        ("batch", "batches"),
        ("epoch", "epochs"),
        ("entry", "entries"),
        ("day", "days"),
        ("process", "processes"),
    ],
)
def test_a_noun_agrees_with_its_number(noun, several):
    assert [plural(count, noun) for count in (0, 1, 2)] == [
        f"0 {several}",
        f"1 {noun}",
        f"2 {several}",
    ]


def test_a_meaning_counts_before_the_spelling():
    elsewhere = {"lr": "learning_rate lr0", "opt": "solver"}
    assert similar("Learning-Rate", ("lr", "learning_rat"), elsewhere) == ["lr"]
    assert similar("learning_rate", ("learning_rat",), elsewhere) == ["learning_rat"]
    assert similar("zzz", ("lr",), elsewhere) == []
