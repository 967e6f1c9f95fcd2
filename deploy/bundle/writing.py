"""Publishes a bundle: files first, the manifest last, one rename at the end.

Nobody ever sees half a bundle: it is written in a hidden directory beside its place, and a crash leaves only that.
"""

import io
import os
import secrets
import shutil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deploy.bundle.lineage import Lineage
from deploy.bundle.manifest import MANIFEST_NAME, SAMPLE_NAME, FileEntry, Manifest, OnnxStage, read_manifest
from deploy.bundle.schema import Gives, Kind, Schema
from orchestrator.domain.errors import BundleError

MODEL_NAME = "model.onnx"
CARD_NAME = "card.md"
SAMPLE_ROWS_LIMIT = 16  # enough to warm up and to show; a bundle is no place for the data


def write_bundle(
    directory: Path | str,
    *,
    onnx_model: bytes,
    schema: Schema,
    lineage: Lineage,
    sample_rows: NDArray[np.float32],
    gives: Gives | None = None,
) -> Path:
    """Publishes a model package and returns its directory.

    Args:
        directory: where the bundle will lie, new or empty; its parents are made. When the bundle of this very trial and
            step lies there already (an export that was asked for twice), it is left as it is.
        onnx_model: the serialised model. One input, (n, features) float32; its last float output is the answer.
        schema: what it takes and gives.
        lineage: where it came from.
        sample_rows: (n, features), a few real rows: they warm replicas up and make examples.
        gives: what the last output is; by default probabilities for a classification, values for a regression.

    Raises:
        BundleError: when the place is taken by another bundle, or the rows do not fit the schema.
    """
    place = Path(directory)
    sample = np.ascontiguousarray(sample_rows, dtype=np.float32)[:SAMPLE_ROWS_LIMIT]
    if sample.ndim != 2 or sample.shape[0] == 0 or sample.shape[1] != schema.features:
        raise BundleError(
            f"The sample rows have shape {sample.shape}; give (n, {schema.features}) with n of 1 or more."
        )
    if _is_taken(place):
        return _same_or_refuse(place, lineage)
    stage = OnnxStage(MODEL_NAME, gives or _usual_output(schema))
    contents = {MODEL_NAME: onnx_model, SAMPLE_NAME: _npy(sample), CARD_NAME: _card(schema, lineage).encode()}
    files = {name: FileEntry.of(content) for name, content in contents.items()}
    contents[MANIFEST_NAME] = Manifest(schema, lineage, (stage,), files).to_bytes()
    return _publish(place, contents, lineage)


def _publish(place: Path, contents: dict[str, bytes], lineage: Lineage) -> Path:
    """Writes the files in their order, the manifest last, and renames the directory into its place."""
    place.parent.mkdir(parents=True, exist_ok=True)
    beside = place.parent / f".{place.name}.{secrets.token_hex(6)}.partial"
    beside.mkdir()
    try:
        for name, content in contents.items():
            _write_durably(beside / name, content)
        _sync_directory(beside)
        os.rename(beside, place)
    except OSError as error:
        shutil.rmtree(beside, ignore_errors=True)
        if _is_taken(place):  # another writer was faster
            return _same_or_refuse(place, lineage)
        raise BundleError(
            f"The bundle cannot be published in {place} ({error}). Is there room, may we write?"
        ) from error
    _sync_directory(place.parent)
    return place


def _is_taken(place: Path) -> bool:
    """Returns whether something lies there; an empty directory is replaced by the rename."""
    return place.exists() and (not place.is_dir() or any(place.iterdir()))


def _same_or_refuse(place: Path, lineage: Lineage) -> Path:
    there = read_manifest(place).lineage
    if (there.study, there.trial, there.step) == (lineage.study, lineage.trial, lineage.step):
        return place
    raise BundleError(
        f"{place} already holds the bundle of study {there.study!r}, trial {there.trial}, step {there.step}; "
        "a bundle is never overwritten. Choose another directory."
    )


def _usual_output(schema: Schema) -> Gives:
    return Gives.PROBABILITIES if schema.kind is Kind.CLASSIFICATION else Gives.VALUES


def _npy(rows: NDArray[np.float32]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, rows, allow_pickle=False)
    return buffer.getvalue()


def _write_durably(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _card(schema: Schema, lineage: Lineage) -> str:
    """Returns the model's card, for people."""
    value = "unknown" if lineage.value is None else f"{lineage.value:.6g}"
    parameters = "\n".join(f"| {name} | {value} |" for name, value in lineage.params.items())
    versions = ", ".join(f"{name} {version}" for name, version in lineage.versions.items())
    labels = f", labels {', '.join(map(str, schema.labels))}" if schema.labels else ""
    return (
        f"# {lineage.study}, trial {lineage.trial}\n\n"
        f"- {lineage.metric or 'metric'}: {value} at step {lineage.step}\n"
        f"- {schema.kind.value} from {schema.features} columns of {schema.dtype}{labels}\n"
        f"- data SHA-256: {lineage.data_sha256 or 'unknown'}; seed {lineage.seed}\n"
        f"- made {lineage.created or 'at an unknown time'} with {versions or 'unknown versions'}\n\n"
        f"| parameter | value |\n|---|---|\n{parameters}\n"
    )
