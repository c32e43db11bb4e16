"""Packaging of tf_conv3d_grad.

TensorFlow is an extra and not a requirement: it comes in several packages (`tensorflow`,
`tensorflow-cpu`, vendors' builds), and a requirement on one of them would install it beside
another that is already there.
"""

import pathlib
import re

import setuptools

_HERE = pathlib.Path(__file__).parent


def _version() -> str:
  """Reads the version as text: importing the package would need TensorFlow."""
  text = (_HERE / "tf_conv3d_grad" / "_version.py").read_text(encoding="utf-8")
  match = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
  if match is None:
    raise RuntimeError("tf_conv3d_grad/_version.py has no line __version__ = \"...\"")
  return match.group(1)


setuptools.setup(
  name="tf_conv3d_grad",
  version=_version(),
  description="TensorFlow's Conv3D and its gradients on CPUs: every dtype, format, dilation, group",
  long_description=(_HERE / "README.md").read_text(encoding="utf-8"),
  long_description_content_type="text/markdown",
  license_expression="Apache-2.0",  # SPDX; the classifiers of licences are deprecated
  author="The tf_conv3d_grad authors",
  packages=setuptools.find_packages(include=["tf_conv3d_grad", "tf_conv3d_grad.*"]),
  # Spelt out so that an editable install is a plain path entry, which editors, type checkers and
  # Bazel's own copy of the files all understand; without it setuptools installs an import hook.
  package_dir={"": "."},
  package_data={"tf_conv3d_grad": ["py.typed"]},
  # setuptools' default, `build`, is Bazel's BUILD on file systems that ignore case.
  options={"build": {"build_base": ".build"}},
  zip_safe=False,
  python_requires=">=3.9",
  install_requires=["numpy"],
  extras_require={
    "tensorflow": ["tensorflow>=2.16"],
    "tensorflow-cpu": ["tensorflow-cpu>=2.16"],
    "test": [
      "absl-py", "click", "hypothesis", "matplotlib", "pytest", "pytest-sugar", "pytest-xdist",
      "rich",
    ],
    "examples": ["matplotlib", "nilearn", "rich"],
    "bench": ["matplotlib", "rich", "scipy"],
    "cli": ["click", "rich"],
    "docs": ["pdoc"],
    "notebook": ["click", "ipykernel", "matplotlib", "nbclient", "nbformat", "rich"],
    "dev": ["build", "cosmic-ray", "mypy", "ruff"],
  },
  entry_points={"console_scripts": ["tf-conv3d-grad = tf_conv3d_grad.cli:main"]},
  classifiers=[
    "Development Status :: 5 - Production/Stable",
    "Intended Audience :: Developers",
    "Intended Audience :: Science/Research",
    "Operating System :: OS Independent",
    "Programming Language :: Python :: 3",
    "Programming Language :: Python :: 3 :: Only",
    "Programming Language :: Python :: 3.9",
    "Programming Language :: Python :: 3.10",
    "Programming Language :: Python :: 3.11",
    "Programming Language :: Python :: 3.12",
    "Programming Language :: Python :: 3.13",
    "Topic :: Scientific/Engineering :: Artificial Intelligence",
    "Topic :: Scientific/Engineering :: Image Processing",
    "Topic :: Scientific/Engineering :: Medical Science Apps.",
    "Topic :: Software Development :: Libraries :: Python Modules",
    "Typing :: Typed",
  ],
  keywords="tensorflow keras conv3d 3d-convolution transposed-convolution deconvolution xla cpu",
)
