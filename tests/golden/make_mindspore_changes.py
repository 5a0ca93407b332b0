"""Write mindspore_changes.txt: names whose removal or change MindSpore's documentation announces.

Run with the newest MindSpore that setup.py admits:

    python tests/golden/make_mindspore_changes.py

The docstrings of 2.10 announce what a later version removes or changes ("after version 2.9.0",
which 2.10 itself does not do yet). What only gains an optional argument is left out.
"""

import inspect
import re
from pathlib import Path

import mindspore
import mindspore.dataset as ds
from mindspore import amp, communication, mindrecord, nn, ops, train
from mindspore.common import initializer

PLACES = {
    "mindspore": mindspore,
    "mindspore.amp": amp,
    "mindspore.common.initializer": initializer,
    "mindspore.communication": communication,
    "mindspore.dataset": ds,
    "mindspore.dataset.config": ds.config,
    "mindspore.dataset.transforms": ds.transforms,
    "mindspore.dataset.vision": ds.vision,
    "mindspore.dtype": mindspore.dtype,
    "mindspore.mindrecord": mindrecord,
    "mindspore.nn": nn,
    "mindspore.ops": ops,
    "mindspore.Tensor": mindspore.Tensor,
    "mindspore.train": train,
}
_FUTURE = r"after version 2\.9\.0|version 2\.9\.0[^.]*and will be removed|future versions?"
_ADDS = r"(optional|single-argument)[^.]*(will be added|will be supported)|change is backward-comp"


def announces_a_change(text: str) -> bool:
    """Tell whether a docstring announces more than an addition."""
    text = " ".join(text.split("Examples:")[0].split())
    sentences = re.split(r"(?<=\w[.:`]) (?=[A-Z`-])", text)
    return any(
        re.search(_FUTURE, sentence, re.IGNORECASE) and not re.search(_ADDS, sentence)
        for sentence in sentences
    )


def main() -> None:
    names = [
        f"{place}.{name}"
        for place, module in PLACES.items()
        for name in dir(module)
        if not name.startswith("_")
        and not inspect.ismodule(getattr(module, name, None))
        and announces_a_change(getattr(module, name, None).__doc__ or "")
    ]
    path = Path(__file__).with_name("mindspore_changes.txt")
    path.write_text("\n".join(sorted(names)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
