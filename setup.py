from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent


def requirements() -> list[str]:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def version() -> str:
    for line in (ROOT / "mindcv" / "__init__.py").read_text(encoding="utf-8").splitlines():
        if line.startswith("__version__"):
            return line.split('"')[1]
    raise RuntimeError("mindcv/__init__.py tells no __version__")


setup(
    name="mindcv",
    version=version(),
    description="RegNet image classifiers for MindSpore",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10,<3.13",
    packages=find_packages(include=["mindcv", "mindcv.*"]),
    package_data={"mindcv.hub": ["published.yaml"], "mindcv.tools.report": ["page.css"]},
    install_requires=requirements(),
    extras_require={
        "demo": ["mlxtend>=0.23"],
        "export": ["onnxruntime>=1.17"],
        "plots": ["matplotlib>=3.7"],
        "tensorboard": ["tensorboardX>=2.6"],
        "test": [
            "pytest>=7",
            "pytest-timeout>=2",
            "pytest-xdist>=3",
            "ruff>=0.5",
            "matplotlib>=3.7",
            "onnxruntime>=1.17",
            "tensorboardX>=2.6",
        ],
    },
)
