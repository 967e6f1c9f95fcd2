"""The versions that a study ran with, for its journal and its bundles."""

import platform
from importlib import metadata

PACKAGES = ("orchestrator", "ray", "torch", "scikit-learn", "numpy", "optuna", "onnx", "onnxruntime")


def versions() -> dict[str, str]:
    """Returns the installed versions by name; a package that is not there is left out."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
