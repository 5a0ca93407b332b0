import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent


def requirements() -> list[str]:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def description() -> str:
    """Return the README; of links into the repository, which an index does not have, the text."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    readme = re.sub(r"^!\[[^]]*]\((?!https:)[^)]*\)\n", "", readme, flags=re.MULTILINE)
    return re.sub(r"\[([^]]*)]\((?!https:|#)[^)]*\)", r"\1", readme)


def version() -> str:
    for line in (ROOT / "mindcv" / "__init__.py").read_text(encoding="utf-8").splitlines():
        if line.startswith("__version__"):
            return line.split('"')[1]
    raise RuntimeError("mindcv/__init__.py tells no __version__")


setup(
    name="mindcv-regnet",  # mindcv on PyPI is MindCV
    version=version(),
    description="RegNet image classifiers for MindSpore",
    long_description=description(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10,<3.13",
    classifiers=[
        "Development Status :: 5 - Production/Stable",
        "Environment :: Console",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "License :: OSI Approved :: Apache Software License",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    keywords="mindspore regnet image-classification imagenet ascend mindcv",
    project_urls={
        "Paper": "https://arxiv.org/abs/2003.13678",
        "MindSpore": "https://www.mindspore.cn/en",
        "MindCV": "https://github.com/mindspore-lab/mindcv",
    },
    entry_points={"console_scripts": ["mindcv = mindcv.__main__:main"]},
    # The recipes stand at the top of the repository; installed, they are a folder of the package.
    packages=[*find_packages(include=["mindcv", "mindcv.*"]), "mindcv.configs"],
    package_dir={"mindcv.configs": "configs"},
    package_data={
        "mindcv": ["py.typed"],
        "mindcv.configs": ["*.yaml", "*.md", "*/*.yaml"],
        "mindcv.hub": ["published.yaml", "imagenet_classes.txt"],
        "mindcv.tools.report": ["page.css"],
    },
    install_requires=requirements(),
    extras_require={
        "demo": ["mlxtend>=0.23"],
        "docs": [
            "mkdocs>=1.6,<2",
            "mkdocs-material>=9.5,<10",
            "mkdocstrings[python]>=1,<2",
            "ruff>=0.5",
        ],
        "export": ["onnxruntime>=1.17"],
        "plots": ["matplotlib>=3.7"],
        "tensorboard": ["tensorboardX>=2.6"],
        "test": [
            "pytest>=7",
            "pytest-timeout>=2",
            "pytest-xdist>=3",
            "ruff>=0.5",
            "setuptools>=70.1",
            "matplotlib>=3.7",
            "onnxruntime>=1.17",
            "tensorboardX>=2.6",
            "ipykernel>=6",
            "nbclient>=0.8",
        ],
    },
)
