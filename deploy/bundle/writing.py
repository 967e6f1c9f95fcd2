"""Publishes a bundle: files first, the manifest last, one rename at the end.

Nobody ever sees half a bundle: it is written in a hidden directory beside its place, and a crash leaves only that.
"""

import io
import os
import secrets
import shutil
from pathlib import Path

import numpy as np
import orjson
from numpy.typing import NDArray

from deploy.bundle.columns import TableEncoder
from deploy.bundle.lineage import Lineage
from deploy.bundle.manifest import (
    MANIFEST_NAME,
    PROFILE_NAME,
    RAW_SAMPLE_NAME,
    SAMPLE_NAME,
    ColumnsStage,
    FileEntry,
    Manifest,
    OnnxStage,
    Stage,
    read_manifest,
)
from deploy.bundle.profile import Profile
from deploy.bundle.schema import Gives, Kind, Schema
from deploy.bundle.table import Table
from orchestrator.domain.errors import BundleError

MODEL_NAME = "model.onnx"
COLUMNS_NAME = "columns.json"
CARD_NAME = "card.md"
SAMPLE_ROWS_LIMIT = 16  # enough to warm up and to show; a bundle is no place for the data


def write_bundle(
    directory: Path | str,
    *,
    onnx_model: bytes,
    schema: Schema,
    lineage: Lineage,
    sample_rows: NDArray[np.float32] | Table,
    gives: Gives | None = None,
    encoder: TableEncoder | None = None,
    profile: Profile | None = None,
) -> Path:
    """Publishes a model package and returns its directory.

    Args:
        directory: where the bundle will lie, new or empty; its parents are made. When the bundle of this very trial and
            step lies there already (an export that was asked for twice), it is left as it is.
        onnx_model: the serialised model. One input, (n, features) float32; its last float output is the answer. Behind
            an encoder it takes the encoder's features, and else those of the schema.
        schema: what it takes and gives.
        lineage: where it came from.
        sample_rows: (n, features), a few real rows, raw where there is an encoder: they warm replicas up and make
            examples.
        gives: what the last output is; by default probabilities for a classification, values for a regression.
        encoder: the columns stage, for a model that is asked for raw rows.
        profile: what its data looked like, for whoever compares requests with it.

    Raises:
        BundleError: when the place is taken by another bundle, or the rows do not fit the schema.
    """
    place = Path(directory)
    sample = _sample_of(sample_rows, schema)
    if encoder is not None and encoder.columns != schema.raw:
        raise BundleError("The schema and the columns stage say different columns; make one of the other.")
    if _is_taken(place):
        return _same_or_refuse(place, lineage)
    stages: list[Stage] = [OnnxStage(MODEL_NAME, gives or _usual_output(schema))]
    contents = {MODEL_NAME: onnx_model, **sample, CARD_NAME: _card(schema, lineage).encode()}
    if encoder is not None:
        stages.insert(0, ColumnsStage(COLUMNS_NAME))
        contents[COLUMNS_NAME] = encoder.to_bytes()
    if profile is not None:
        contents[PROFILE_NAME] = profile.to_bytes()
    files = {name: FileEntry.of(content) for name, content in contents.items()}
    contents[MANIFEST_NAME] = Manifest(schema, lineage, tuple(stages), files).to_bytes()
    return _publish(place, contents, lineage)


def _sample_of(rows: NDArray[np.float32] | Table, schema: Schema) -> dict[str, bytes]:
    """Returns the file of sample rows: raw ones as JSON, numbers as an array."""
    given = rows if isinstance(rows, Table) else np.ascontiguousarray(rows, dtype=np.float32)
    if len(given.shape) != 2 or given.shape[0] == 0 or given.shape[1] != schema.features:
        raise BundleError(f"The sample rows have shape {given.shape}; give (n, {schema.features}) with n of 1 or more.")
    few = given[:SAMPLE_ROWS_LIMIT]
    if isinstance(few, Table) != bool(schema.raw):
        raise BundleError("A bundle with raw columns takes a table as sample rows, any other an array of numbers.")
    return {RAW_SAMPLE_NAME: orjson.dumps(few.tolist())} if isinstance(few, Table) else {SAMPLE_NAME: _npy(few)}


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
        f"- {schema.kind.value} from {schema.features} {'raw columns' if schema.raw else f'columns of {schema.dtype}'}"
        f"{labels}\n"
        f"- data SHA-256: {lineage.data_sha256 or 'unknown'}; seed {lineage.seed}\n"
        f"- made {lineage.created or 'at an unknown time'} with {versions or 'unknown versions'}\n\n"
        f"| parameter | value |\n|---|---|\n{parameters}\n{_column_table(schema)}"
    )


def _column_table(schema: Schema) -> str:
    """Returns what a raw row is made of; empty for a model of numbers."""
    if not schema.raw:
        return ""
    lines = [
        f"| {column.name} | {column.kind} | {'yes' if column.nullable else 'no'} | {', '.join(column.levels[:12])}"
        f"{' …' if len(column.levels) > 12 else ''} |"
        for column in schema.raw
    ]
    return "\n| column | takes | may be missing | known levels |\n|---|---|---|---|\n" + "\n".join(lines) + "\n"
