"""The manifest: what a bundle is made of, and the hashes that prove it.

`manifest.json` names each file with its size and SHA-256 and is written last; `digest` is the SHA-256 of everything
else in it, so that an edit by hand is seen, and it identifies the bundle.

Format 1: one onnx stage. Format 2: a columns stage may come before it, and the schema then says what raw cells are. A
bundle is written in the oldest format that can say it.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from deploy.bundle.lineage import Lineage
from deploy.bundle.schema import Gives, Schema
from orchestrator.domain.errors import BundleError

FORMAT_VERSION = 2
MANIFEST_NAME = "manifest.json"
SAMPLE_NAME = "sample.npy"
RAW_SAMPLE_NAME = "sample.json"
PROFILE_NAME = "profile.json"  # a bundle may lack it: those that were made before this program compared requests


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of a bundle: what it must hash to, and its size."""

    sha256: str
    size_bytes: int

    @classmethod
    def of(cls, content: bytes) -> "FileEntry":
        """Returns the entry of a file with this content."""
        return cls(hashlib.sha256(content).hexdigest(), len(content))


@dataclass(frozen=True, slots=True)
class OnnxStage:
    """A stage that runs an ONNX model: its file, and what its last output is."""

    file: str
    gives: Gives

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data."""
        return {"kind": "onnx", "file": self.file, "gives": self.gives.value}

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> "OnnxStage":
        """Returns the stage that `to_dict` wrote."""
        return cls(str(given["file"]), Gives(given["gives"]))


@dataclass(frozen=True, slots=True)
class ColumnsStage:
    """A stage that makes a model's inputs of raw rows: the file with its steps."""

    file: str

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data."""
        return {"kind": "columns", "file": self.file}

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> "ColumnsStage":
        """Returns the stage that `to_dict` wrote."""
        return cls(str(given["file"]))


Stage = OnnxStage | ColumnsStage
_STAGES: Mapping[str, type[OnnxStage] | type[ColumnsStage]] = {"onnx": OnnxStage, "columns": ColumnsStage}


def stage_from_dict(given: Mapping[str, Any]) -> Stage:
    """Returns a stage of a manifest.

    Raises:
        BundleError: when this program does not know the stage's kind.
    """
    kind = _STAGES.get(given["kind"])
    if kind is None:
        raise BundleError(
            f"This bundle has a stage of kind {given['kind']!r}; this version knows {', '.join(_STAGES)}. "
            "Serve it with a newer version of this program."
        )
    return kind.from_dict(given)


@dataclass(frozen=True, slots=True)
class Manifest:
    """What `manifest.json` says."""

    schema: Schema
    lineage: Lineage
    stages: tuple[Stage, ...]
    files: Mapping[str, FileEntry]

    @property
    def format(self) -> int:
        """The oldest format that can say this."""
        return 2 if any(isinstance(stage, ColumnsStage) for stage in self.stages) else 1

    @property
    def digest(self) -> str:
        """The SHA-256 that identifies the bundle."""
        return _digest(self._body())

    def to_bytes(self) -> bytes:
        """Returns the content of `manifest.json`."""
        return orjson.dumps({**self._body(), "digest": self.digest}, option=orjson.OPT_INDENT_2)

    def _body(self) -> dict[str, Any]:
        return {
            "format": self.format,
            "schema": self.schema.to_dict(),
            "lineage": self.lineage.to_dict(),
            "stages": [stage.to_dict() for stage in self.stages],
            "files": {
                name: {"sha256": entry.sha256, "size_bytes": entry.size_bytes} for name, entry in self.files.items()
            },
        }


def read_manifest(directory: Path) -> Manifest:
    """Returns the manifest of the bundle in `directory`.

    Raises:
        BundleError: when there is none, it is of a newer format, or it was damaged or edited.
    """
    given = _read_json(directory)
    version = given.get("format")
    if not isinstance(version, int) or version < 1:
        raise BundleError(f"The bundle {directory} names no format version. Export the model again.")
    if version > FORMAT_VERSION:
        raise BundleError(
            f"The bundle {directory} has format {version}; this version reads formats up to {FORMAT_VERSION}. "
            "Serve it with a newer version of this program."
        )
    said = given.pop("digest", None)
    if said != _digest(given):
        raise BundleError(f"The manifest of the bundle {directory} was edited or damaged. Export the model again.")
    return _parse(given, directory)


def check_files(directory: Path, files: Mapping[str, FileEntry]) -> None:
    """Reads every file once and compares it with its entry.

    Raises:
        BundleError: when a file is missing, too many, or does not hash to what the manifest says.
    """
    found = {path.relative_to(directory).as_posix() for path in directory.rglob("*") if not path.is_dir()}
    extra = sorted(found - set(files) - {MANIFEST_NAME})
    if extra:
        raise BundleError(f"The bundle {directory} has a file that its manifest does not name: {extra[0]}. Remove it.")
    for name, entry in files.items():
        read_checked(directory, name, entry)


def read_checked(directory: Path, name: str, entry: FileEntry) -> bytes:
    """Returns the content of a file of the bundle, checked against its entry.

    Raises:
        BundleError: when it is missing or does not hash to what the manifest says.
    """
    try:
        content = (directory / name).read_bytes()
    except OSError as error:
        raise BundleError(f"The bundle {directory} lacks its file {name} ({error.strerror}). Export again.") from error
    if FileEntry.of(content) != entry:
        raise BundleError(
            f"The file {name} of the bundle {directory} was edited or damaged: it has {len(content)} bytes and the "
            f"wrong SHA-256, {entry.size_bytes} bytes were published. Export the model again."
        )
    return content


def _read_json(directory: Path) -> dict[str, Any]:
    path = directory / MANIFEST_NAME
    try:
        given = orjson.loads(path.read_bytes())
    except OSError as error:
        raise BundleError(
            f"There is no bundle in {directory}: {path.name} cannot be read ({error.strerror}). "
            "Give the directory that an export published."
        ) from error
    except orjson.JSONDecodeError as error:
        raise BundleError(f"The manifest {path} is damaged ({error}). Export the model again.") from error
    if not isinstance(given, dict):
        raise BundleError(f"The manifest {path} is damaged (not an object). Export the model again.")
    return given


def _parse(given: Mapping[str, Any], directory: Path) -> Manifest:
    try:
        return Manifest(
            schema=Schema.from_dict(given["schema"]),
            lineage=Lineage.from_dict(given["lineage"]),
            stages=tuple(stage_from_dict(stage) for stage in given["stages"]),
            files={
                str(name): FileEntry(str(entry["sha256"]), int(entry["size_bytes"]))
                for name, entry in given["files"].items()
            },
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BundleError(f"The manifest of {directory} cannot be read ({error!r}). Export the model again.") from error


def _digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).hexdigest()
