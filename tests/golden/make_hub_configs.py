"""Write hub_configs.json: the config.json that timm writes for a RegNet which it puts on a hub.

    python tests/golden/make_hub_configs.py

Needs torch and timm (see peers.py). With each stands what timm itself would do to an image.
"""

import json
import tempfile
from pathlib import Path

import peers

TARGET = Path(__file__).with_name("hub_configs.json")
MODELS = ("regnetx_002.pycls_in1k", "regnety_032.ra_in1k", "regnety_004.tv2_in1k")


def main() -> None:
    timm = peers.timm
    found = {"_source": f"timm {timm.__version__}; made by tests/golden/make_hub_configs.py"}
    with tempfile.TemporaryDirectory() as folder:
        for name in MODELS:
            model = timm.create_model(name)
            path = Path(folder, "config.json")
            timm.models._hub.save_config_for_hf(model, path)
            used = timm.data.resolve_data_config(model=model, use_test_size=True)
            found[name] = {
                "config": json.loads(path.read_text(encoding="utf-8")),
                "evaluation": {key: used[key] for key in sorted(used)},
            }
    TARGET.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
