"""The last step of every export: a model becomes a bundle only after it answered as the trained model does."""

import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.bundle import (
    Bundle,
    Lineage,
    Profile,
    Rows,
    Schema,
    Table,
    TableEncoder,
    check_parity,
    odd_records,
    odd_rows,
    write_bundle,
)
from orchestrator.domain.errors import BundleError
from trainables.split import Split
from trainables.table_split import TableSplit

SAMPLE_ROWS = 16


def publish(
    directory: Path,
    onnx_model: bytes,
    parts: Split,
    predict: Callable[[NDArray[np.float32]], NDArray[Any]],
    lineage: Lineage,
    tolerance: float = 1e-4,
) -> None:
    """Puts a checked bundle into `directory`, which is empty or does not exist; it appears complete or not at all.

    An export that is asked for twice, because its first answer was lost, finds its bundle there and leaves it.

    Args:
        directory: where the bundle is to be.
        onnx_model: the exported model; takes raw rows `(n_rows, n_features)`.
        parts: the data; answers are compared on its validation rows and on rows at and beyond their edges.
        predict: what the trained model answers.
        lineage: where the model came from.
        tolerance: how far a probability, or a value in its own scale above 1, may be off.

    Raises:
        BundleError: the two do not answer alike, or `directory` holds something else.
    """
    schema = Schema(columns=parts.feature_names, kind=parts.kind, labels=parts.classes)
    contents = {
        "onnx_model": onnx_model,
        "schema": schema,
        "lineage": lineage,
        "sample_rows": parts.validation_x[:SAMPLE_ROWS],
    }
    _publish_checked(directory, contents, parts, odd_rows(schema, parts.validation_x), predict, tolerance)


def publish_table(
    directory: Path,
    onnx_model: bytes,
    encoder: TableEncoder,
    parts: TableSplit,
    predict: Callable[[Table], NDArray[Any]],
    lineage: Lineage,
    tolerance: float = 1e-4,
) -> None:
    """Does the same for a model behind a columns stage, which takes raw rows.

    Answers are compared on the validation rows, and on rows with missing, unseen and extreme cells.

    Raises:
        BundleError: the two do not answer alike, or `directory` holds something else.
    """
    schema = Schema(columns=parts.feature_names, kind=parts.kind, labels=parts.classes, raw=encoder.columns)
    contents = {
        "onnx_model": onnx_model,
        "schema": schema,
        "lineage": lineage,
        "sample_rows": parts.validation_x[:SAMPLE_ROWS],
        "encoder": encoder,
    }
    _publish_checked(directory, contents, parts, odd_records(parts.validation_x), predict, tolerance)


def _publish_checked(
    directory: Path,
    contents: dict[str, Any],
    parts: Split | TableSplit,
    odd: Rows,
    predict: Callable[[Any], NDArray[Any]],
    tolerance: float,
) -> None:
    """Writes a bundle beside its place, lets it answer usual and odd rows as the model does, and only then moves it."""
    if directory.is_dir() and any(directory.iterdir()):
        write_bundle(directory, **contents)  # returns where the same trial and step lie there, and raises otherwise
        return
    directory.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{directory.name}.", dir=directory.parent) as beside:
        usual = np.asarray(predict(parts.validation_x))
        profile = Profile.of(contents["schema"], parts.train_x, usual)
        place = write_bundle(Path(beside) / "bundle", **contents, profile=profile)
        bundle = Bundle.open(place)
        check_parity(bundle, parts.validation_x, usual, tolerance)
        check_parity(bundle, odd, predict(odd), tolerance)
        _move(place, directory)


def _move(place: Path, directory: Path) -> None:
    try:
        os.rename(place, directory)  # POSIX lets an empty directory be replaced, and no other
    except OSError as error:
        raise BundleError(
            f"the bundle cannot be put into {directory} ({error.strerror}); give a directory that is empty or new"
        ) from error
    parent = os.open(directory.parent, os.O_RDONLY)
    try:
        os.fsync(parent)  # or a power cut could take the rename back
    finally:
        os.close(parent)
