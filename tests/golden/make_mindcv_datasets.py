"""Make mindcv_datasets.json: what MindCV's `create_dataset` and its sampler give.

Run with MindCV and MindSpore on a CPU: `python make_mindcv_datasets.py`. CIFAR's folder is the one
that its archive holds: MindSpore reads no other.
"""

import inspect
import json
import tempfile
from pathlib import Path

from mindcv.data.distributed_sampler import RepeatAugSampler
from mindcv_dataset_cases import CALLS, SAMPLERS, batches, facts, root_of, write_datasets

from mindcv.data import create_dataset, create_loader, create_transforms

INNER = {"cifar10": "cifar-10-batches-bin", "cifar100": "cifar-100-binary"}


def result(call) -> dict:
    try:
        return call()
    except (RuntimeError, ValueError) as error:
        return {"error": type(error).__name__}


def main():
    golden = {"datasets": {}, "digits": {}}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_datasets(root)
        for title, (name, split, more) in CALLS.items():
            place = Path(root_of(name, split, root), INNER.get(name.lower(), ""))

            def open_dataset(name=name, place=place, split=split, more=more):
                return facts(create_dataset(name, str(place), split, shuffle=False, **more))

            golden["datasets"][title] = result(open_dataset)
        for is_training in (True, False):
            digits = create_dataset("mnist", str(root / "mnist"), "train", shuffle=False)
            transform = create_transforms("mnist", 32, is_training)
            loader = create_loader(digits, 4, transform=transform)
            golden["digits"][str(is_training)] = batches(loader)
    golden["samplers"] = []
    for arguments in SAMPLERS:
        sampler = RepeatAugSampler(**arguments)
        epochs = [[int(index) for index in sampler] for _ in range(2)]
        golden["samplers"].append([len(sampler), epochs])
    golden["parameters"] = {
        function.__name__: [
            [name, repr(parameter.default)]
            for name, parameter in inspect.signature(function).parameters.items()
            if parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        ]
        for function in (create_dataset, RepeatAugSampler)
    }
    text = json.dumps(golden, indent=None, separators=(",", ":"))
    Path(__file__).with_name("mindcv_datasets.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
