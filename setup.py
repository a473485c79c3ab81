"""Install ``switchablecompat`` beside an existing FastReID.

FastReID itself is not a dependency: its last release pins torch 1.13, which current Pythons cannot install. It comes
with ``pip install --no-deps fastreid==1.4.0``, or from a checkout on PYTHONPATH; the packages that it needs are below.
"""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).parent
PROJECT = HERE / "projects" / "SwitchableCompat"
DEPLOY = [
    "onnx>=1.17,<2",
    "onnxscript>=0.5,<1",  # what torch.onnx exports with
    "onnxruntime>=1.20,<2",
    "pyarrow>=18",  # shards of features
]
MILVUS = ["pymilvus>=2.5,<4", "milvus-lite>=3,<4"]  # a client of Milvus, and Milvus in a file (Linux, macOS, Windows)
TORCHJD = [
    "torchjd[quadprog-projector]>=0.18,<1",
    "cvxpy>=1.6,<2",  # of its CAGrad, with the solver that the next line brings
    "clarabel>=0.9,<1",
]
VERSION = re.search(r'__version__ = "(.+)"', (PROJECT / "switchablecompat" / "__init__.py").read_text()).group(1)

# Found by name where a working directory has no such file (files.shipped). tools/install_into_fastreid.py reads this.
SHIPPED = ("configs", "results/paper")


class BuildWithConfigs(build_py):
    """Put the configs into the package that is built; a checkout has them once, where they are."""

    def run(self) -> None:
        """Build."""
        super().run()
        for folder in () if self.editable_mode else SHIPPED:
            target = Path(self.build_lib) / "switchablecompat" / "shipped" / folder
            shutil.copytree(HERE / folder, target, dirs_exist_ok=True)


setup(
    name="switchablecompat",
    version=VERSION,
    description="Switchable networks with self-compatible features (SFSC), as a plug-in of FastReID",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    package_dir={"": "projects/SwitchableCompat"},
    packages=find_packages("projects/SwitchableCompat"),
    py_modules=["switchablecompat_command"],
    entry_points={"console_scripts": ["switchablecompat = switchablecompat_command:main"]},
    cmdclass={"build_py": BuildWithConfigs},
    package_data={"switchablecompat": ["py.typed", "family/page/template.html"]},
    install_requires=[
        "torch>=2.6,<3",  # loads checkpoints without running what is in them by default
        "torchvision>=0.21,<1",
        "numpy>=2,<3",
        "pillow>=10,<14",
        "yacs>=0.1.8,<0.2",  # the next five are FastReID's, whose own pins cannot be met
        "termcolor>=2,<4",
        "tabulate>=0.9,<1",
        "faiss-cpu>=1.9,<2",
        "scikit-learn>=1.5,<2",
        "tensorboard>=2.18,<3",
        "matplotlib>=3.9,<4",  # grid.png
        "scipy>=1.13,<2",  # quantiles of Student's t
        "tqdm>=4.60,<5",
        "jinja2>=3.1,<4",  # the report's page
    ],
    extras_require={
        "deploy": DEPLOY,
        "milvus": [*DEPLOY, *MILVUS],
        "openvino": [*DEPLOY, "openvino>=2025"],
        "torchjd": TORCHJD,  # aggregators of other papers
        "bench": ["torchjd>=0.18,<1", "cython>=3,<4", "setuptools>=68"],  # peers of tools/benchmark.py
        "test": [
            *DEPLOY,
            *MILVUS,
            "openvino>=2025",
            "qdrant-client>=1.12,<2",  # the documentation's snippet
            "pytest>=8,<10",
            "pytest-xdist>=3.6,<4",
            "pytest-timeout>=2.3,<3",  # several processes that wait for each other must not wait for ever
            "hypothesis>=6.100,<7",
            "ruff>=0.6,<1",
            "setuptools>=70.1",  # builds the wheel that a test installs
            "mypy>=2,<3",
            *TORCHJD,
        ],
    },
    classifiers=["Programming Language :: Python :: 3", "Topic :: Scientific/Engineering :: Image Recognition"],
)
