"""A directory with a Dockerfile that answers from a bundle, without Ray: numpy, onnxruntime, orjson and an ASGI server.

It holds those modules of this program that answering takes, and no others; which they are is asked of Python itself.
"""

import shutil
import subprocess
import sys
from importlib.metadata import version as version_of
from pathlib import Path

from deploy.bundle import Bundle
from deploy.exports.directory import copy_bundle, written

PORT = 8080
PACKAGES = ("numpy", "onnxruntime", "orjson", "uvicorn")
ROOTS = ("deploy", "orchestrator")
ASKED = (
    "import sys, deploy.standalone, deploy.formats.csv_rows\n"
    "print('\\n'.join(f'{n}\\t{m.__file__}' for n, m in sys.modules.items() if n.partition('.')[0] in sys.argv[1:]))"
)
DOCKERFILE = f"""FROM python:{{python}}-slim
WORKDIR /srv
COPY requirements.txt .
RUN pip install --no-cache-dir --requirement requirements.txt
COPY . .
ENV ENDPOINT_BUNDLE=bundle ENDPOINT_NAME={{name}} ENDPOINT_VERSION={{version}} PYTHONUNBUFFERED=1
USER 10001
EXPOSE {PORT}
HEALTHCHECK CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:{PORT}/v2/health/live')"]
# no token is in the image: give it as ENDPOINT_TOKEN, or its file as ENDPOINT_TOKEN_FILE
CMD ["uvicorn", "--factory", "deploy.standalone:application", "--host", "0.0.0.0", "--port", "{PORT}"]
"""


def export_container(bundle: Bundle, name: str, directory: Path, version: int = 1) -> Path:
    """Returns the directory; `docker build` makes an image of it, and `uvicorn` runs it where it lies.

    Raises:
        EndpointError: the directory is taken, or cannot be written.
    """

    def write(place: Path) -> None:
        copy_bundle(bundle, place / "bundle")
        for module in _modules():
            target = place / module.relative_to(_home())
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(module, target)
        pins = [f"{package}=={version_of(package)}" for package in PACKAGES]
        (place / "requirements.txt").write_text("\n".join(pins) + "\n")
        python = f"{sys.version_info.major}.{sys.version_info.minor}"
        (place / "Dockerfile").write_text(DOCKERFILE.format(python=python, name=name, version=version))

    return written(directory, write)


def _modules() -> list[Path]:
    """Returns the files that answering loads, in a Python of its own: this one has loaded much more."""
    done = subprocess.run(
        [sys.executable, "-c", ASKED, *ROOTS], cwd=_home(), check=True, capture_output=True, text=True
    )
    files = [Path(line.partition("\t")[2]) for line in done.stdout.splitlines()]
    return [*files, *(_home() / "deploy").glob("*.html")]


def _home() -> Path:
    """Returns the directory that this program's packages are in."""
    return Path(__file__).parents[2]
