"""Make mindcv_options.json: MindCV's options, and what its recipes set them to.

Run `python make_mindcv_options.py CLONE` with a clone of MindCV that has its history. The result
holds, by tag, the default and the choices of each option of config.py, and for each key of the
recipes under configs/, in all their versions, the values that it had. `recipes` are those of HEAD:
the position of each recipe's value in `values`, null where it does not set the key.
"""

import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

FILE = Path(__file__).with_name("mindcv_options.json")
TAGS = ("v0.0.1-alpha", "v0.0.1-beta", "v0.1", "v0.1.1", "v0.2.0", "v0.2.1", "v0.2.2", "v0.3.0")
ELSEWHERE = {"ckpt_path", "ckpt_save_dir", "data_dir", "model"}  # paths and other networks


def main(clone: str) -> None:
    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", clone, *words], check=True, stdout=subprocess.PIPE)
        return done.stdout.decode("utf-8")

    found = {version: options(git("show", f"{version}:config.py")) for version in (*TAGS, "HEAD")}
    values: dict[str, list] = {}
    for blob in sorted(recipes(git("log", "--format=", "--raw", "--no-abbrev", "--", "configs"))):
        for key, value in (yaml.safe_load(git("cat-file", "blob", blob)) or {}).items():
            if key not in ELSEWHERE and value not in values.setdefault(key, []):
                values[key].append(value)
    values = {key: sorted(values[key], key=str) for key in values}
    names = git("ls-tree", "-r", "--name-only", "HEAD", "configs").splitlines()
    today = [yaml.safe_load(git("show", f"HEAD:{name}")) for name in names if name[-5:] == ".yaml"]
    chosen = {
        key: [values[key].index(recipe[key]) if key in recipe else None for recipe in today]
        for key in values
        if any(key in recipe for recipe in today)
    }
    text = json.dumps({"options": found, "recipes": chosen, "values": values}, sort_keys=True)
    FILE.write_text(f"{text}\n", encoding="utf-8")


def options(source: str) -> dict[str, list]:
    """Return [default, choices] of each option of a config.py."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "config.py")
        path.write_text(source, encoding="utf-8")
        spec = importlib.util.spec_from_file_location("mindcv_config", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    _, parser = module.create_parser()
    return {
        action.dest: [action.default, action.choices]
        for action in parser._actions
        if action.dest != "help"
    }


def recipes(log: str) -> set[str]:
    """Return the contents that a raw log names, as git's object names."""
    lines = [line.split() for line in log.splitlines() if line.endswith(".yaml")]
    return {line[3] for line in lines if line[4] != "D"}


if __name__ == "__main__":
    main(sys.argv[1])
