"""Opens a bundle and predicts from it, without the code that trained it.

Shapes: n rows, f features, w of them behind a columns stage, k classes, t targets.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol
from urllib.parse import unquote, urlparse

import numpy as np
import orjson
from numpy.typing import NDArray

from deploy.bundle.columns import TableEncoder
from deploy.bundle.lineage import Lineage
from deploy.bundle.manifest import (
    PROFILE_NAME,
    RAW_SAMPLE_NAME,
    SAMPLE_NAME,
    ColumnsStage,
    Manifest,
    OnnxStage,
    check_files,
    read_checked,
    read_manifest,
)
from deploy.bundle.profile import Profile
from deploy.bundle.schema import Gives, Kind, Label, Schema
from deploy.bundle.table import RawRow, Table
from orchestrator.domain.errors import BundleError

CUDA = "CUDAExecutionProvider"

Rows = NDArray[np.float32] | Table | Sequence[RawRow]
"""Numbers (n, f); or a table, or records, where a columns stage takes them."""


class Session(Protocol):
    """What is used of an onnxruntime session; its `run` may be called from several threads at once."""

    def run(self, outputs: Sequence[str] | None, feed: Mapping[str, NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """Returns the named outputs for the named inputs."""
        ...


class Prediction(NamedTuple):
    """Answers for n rows.

    `scores` are probabilities (n, k) for a classification, values (n,) or (n, t) for a regression;
    `labels` has n classes and is empty for a regression.
    """

    scores: NDArray[np.float32]
    labels: tuple[Label, ...] = ()


@dataclass(frozen=True, slots=True)
class Bundle:
    """An open model package: immutable, and safe to use from several threads.

    Example:
        Bundle.open("runs/digits/bundles/3").predict(rows).labels
    """

    uri: str
    digest: str
    schema: Schema
    lineage: Lineage
    gives: Gives
    sample: NDArray[np.float32] | Table
    encoder: TableEncoder | None
    profile: Profile | None
    _session: Session
    _input: str
    _output: str

    @classmethod
    def open(cls, path_or_uri: Path | str, *, verify: bool = True, threads: int = 1, on_gpu: bool = False) -> "Bundle":
        """Returns the bundle, its model loaded.

        Args:
            path_or_uri: a directory, or a `file://` URI of one.
            verify: whether every file is read and hashed, and none may be too many; else only those that are used.
            threads: how many threads one prediction may use.
            on_gpu: whether the model runs on a GPU where onnxruntime can (the package `onnxruntime-gpu`); on CPUs else.

        Raises:
            BundleError: when it is missing, damaged, edited, of a newer format, or its model cannot be loaded.
        """
        directory = local_directory(path_or_uri)
        manifest = read_manifest(directory)
        if verify:
            check_files(directory, manifest.files)
        columns, stage = _stages(manifest, directory)
        model = _read(directory, manifest, stage.file)
        session, input_name, output_name = _start_session(model, directory, threads, on_gpu)
        return cls(
            uri=directory.as_uri(),
            digest=manifest.digest,
            schema=manifest.schema,
            lineage=manifest.lineage,
            gives=stage.gives,
            sample=_load_sample(manifest, directory),
            encoder=_load_encoder(manifest, columns, directory),
            profile=_load_profile(manifest, directory),
            _session=session,
            _input=input_name,
            _output=output_name,
        )

    @property
    def tensors(self) -> tuple[str, str, tuple[int, ...]]:
        """The names of the model's input and of the output that is the answer, and a row's shape in the latter."""
        return self._input, self._output, self._session.run([self._output], self._feed())[0].shape[1:]

    def _feed(self) -> dict[str, NDArray[np.float32]]:
        one = self.sample[:1]
        return {self._input: self._numbers(one) if self.encoder is None else self.encoder.transform(self.table(one))}

    def predict(self, rows: Rows) -> Prediction:
        """Returns the answers for n rows, n of 1 or more.

        Args:
            rows: numbers (n, features). With a columns stage also a table, or a list of raw records or lists of cells.

        Raises:
            BundleError: when the rows do not fit, or the model fails on them.
        """
        return self.score(self.encode(rows))

    def encode(self, rows: Rows) -> NDArray[np.float32]:
        """Returns rows as the model itself takes them, (n, w): behind the columns stage, where there is one.

        Raises:
            BundleError: when the rows do not fit.
        """
        return self._numbers(rows) if self.encoder is None else self.encoder.transform(self.table(rows))

    def score(self, numbers: NDArray[np.float32]) -> Prediction:
        """Returns the answers for rows (n, w) that were encoded; rows of several requests may be put together.

        Raises:
            BundleError: when the model fails on them.
        """
        try:
            (raw,) = self._session.run([self._output], {self._input: numbers})
        except Exception as error:  # onnxruntime's errors share no public root
            raise BundleError(f"The model of {self.uri} failed on {len(numbers)} rows: {error}") from error
        return self._interpret(np.asarray(raw, dtype=np.float32))

    def table(self, rows: Rows) -> Table:
        """Returns raw rows as a table of this model's columns; it needs a columns stage.

        Raises:
            BundleError: naming the row and the column that do not fit.
        """
        if isinstance(rows, Table):
            return rows
        if isinstance(rows, np.ndarray):
            return Table.of_numbers(self.schema.raw, rows)
        return Table.of_rows(self.schema.raw, rows)

    def _numbers(self, rows: Rows) -> NDArray[np.float32]:
        if not isinstance(rows, np.ndarray):
            raise BundleError(
                f"The model of {self.uri} has no columns stage; give numbers (n, {self.schema.features})."
            )
        if rows.ndim != 2 or rows.shape[1] != self.schema.features:
            raise BundleError(f"The rows have shape {rows.shape}; this model takes (n, {self.schema.features}).")
        return np.ascontiguousarray(rows, dtype=np.float32)

    def warm_up(self) -> None:
        """Predicts the sample once, so that the first request does not pay for allocations.

        Raises:
            BundleError: when the model cannot answer its own sample.
        """
        self.predict(self.sample[:1])
        self.predict(self.sample)

    def _interpret(self, raw: NDArray[np.float32]) -> Prediction:
        if self.schema.kind is Kind.REGRESSION:
            return Prediction(raw[:, 0] if raw.ndim == 2 and raw.shape[1] == 1 else raw)
        if raw.ndim != 2 or raw.shape[1] != len(self.schema.labels):
            raise BundleError(f"The model of {self.uri} gives {raw.shape} for {len(self.schema.labels)} labels.")
        scores = softmax(raw) if self.gives is Gives.LOGITS else raw
        labels = self.schema.labels
        return Prediction(scores, tuple(map(labels.__getitem__, scores.argmax(axis=1).tolist())))


def local_directory(path_or_uri: Path | str) -> Path:
    """Returns the absolute directory that a path or a `file://` URI names.

    Raises:
        BundleError: for any other scheme.
    """
    text = str(path_or_uri)
    if "://" not in text:
        return Path(text).absolute()
    parts = urlparse(text)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
        raise BundleError(f"The bundle {text} cannot be opened: give a directory or a file:// URI of this host.")
    return Path(unquote(parts.path))


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns probabilities (n, k); the largest logit is taken off first, because exp overflows above 88 in float32."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float32)


def _stages(manifest: Manifest, directory: Path) -> tuple[ColumnsStage | None, OnnxStage]:
    """Returns the columns stage, where there is one, and the model."""
    match manifest.stages:
        case (OnnxStage() as model,) if not manifest.schema.raw:
            return None, model
        case (ColumnsStage() as columns, OnnxStage() as model) if manifest.schema.raw:
            return columns, model
    kinds = [stage.to_dict()["kind"] for stage in manifest.stages]
    raise BundleError(f"The bundle {directory} has the stages {kinds}; this version runs onnx, or columns and onnx.")


def _load_encoder(manifest: Manifest, stage: ColumnsStage | None, directory: Path) -> TableEncoder | None:
    if stage is None:
        return None
    return TableEncoder.from_bytes(_read(directory, manifest, stage.file), manifest.schema.raw)


def _load_profile(manifest: Manifest, directory: Path) -> Profile | None:
    if PROFILE_NAME not in manifest.files:
        return None
    return Profile.from_bytes(_read(directory, manifest, PROFILE_NAME))


def _load_sample(manifest: Manifest, directory: Path) -> NDArray[np.float32] | Table:
    if not manifest.schema.raw:
        return _load_rows(_read(directory, manifest, SAMPLE_NAME), directory)
    content = _read(directory, manifest, RAW_SAMPLE_NAME)
    try:
        return Table.of_rows(manifest.schema.raw, orjson.loads(content))
    except orjson.JSONDecodeError as error:
        raise BundleError(f"The sample rows of {directory} cannot be read ({error}). Export again.") from error


def _read(directory: Path, manifest: Manifest, name: str) -> bytes:
    if name not in manifest.files:
        raise BundleError(f"The manifest of {directory} does not name {name}. Export the model again.")
    return read_checked(directory, name, manifest.files[name])


def _load_rows(content: bytes, directory: Path) -> NDArray[np.float32]:
    try:
        rows = np.load(io.BytesIO(content), allow_pickle=False)
    except ValueError as error:
        raise BundleError(f"The sample rows of {directory} cannot be read ({error}). Export again.") from error
    rows.setflags(write=False)
    return np.asarray(rows, dtype=np.float32)


def _start_session(model: bytes, directory: Path, threads: int, on_gpu: bool) -> tuple[Session, str, str]:
    """Returns a session and the names of its input and of its last float output."""
    import onnxruntime  # loaded here: whoever only wants a lineage must not pay for it

    providers = ["CPUExecutionProvider"]
    if on_gpu and CUDA in onnxruntime.get_available_providers():
        providers.insert(0, CUDA)  # whatever of the model it cannot run falls to the next
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # cores are shared with trials
    try:
        session = onnxruntime.InferenceSession(model, options, providers=providers)
    except Exception as error:  # onnxruntime's errors share no public root
        raise BundleError(f"The model of the bundle {directory} cannot be loaded: {error}") from error
    floats = [output.name for output in session.get_outputs() if output.type == "tensor(float)"]
    if len(session.get_inputs()) != 1 or not floats:
        raise BundleError(f"The model of the bundle {directory} needs one input and a float output.")
    return session, session.get_inputs()[0].name, floats[-1]
