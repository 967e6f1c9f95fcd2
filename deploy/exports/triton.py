"""A model repository for NVIDIA Triton: `<directory>/<name>/config.pbtxt` and `<name>/<version>/model.onnx`.

Triton runs the ONNX model alone. What is done to raw rows before it is not in it, so a bundle with a columns stage is
refused. Labels are in a file beside, as Triton's classification extension takes them.
"""

from pathlib import Path

from deploy.bundle import Bundle, Kind, local_directory
from deploy.exports.directory import written
from orchestrator.domain.errors import EndpointError

MODEL = "model.onnx"
MOST_BATCH = 4096
LABELS = "labels.txt"


def export_triton(bundle: Bundle, name: str, directory: Path, version: int = 1) -> Path:
    """Returns the model repository; `tritonserver --model-repository=DIRECTORY` serves it.

    Raises:
        EndpointError: the model takes raw rows, or the directory is taken.
    """
    if bundle.encoder is not None:
        raise EndpointError(
            "This model takes raw rows (texts, missing cells), which its columns stage makes numbers of; Triton would "
            "run the ONNX model without it. Export it `--to docker` or `--to serve`, where the stage runs too."
        )

    def write(place: Path) -> None:
        model = place / name
        (model / str(version)).mkdir(parents=True)
        (model / str(version) / MODEL).write_bytes((local_directory(bundle.uri) / MODEL).read_bytes())
        (model / "config.pbtxt").write_text(_config(bundle, name))
        if bundle.schema.kind is Kind.CLASSIFICATION:
            (model / LABELS).write_text("".join(f"{label}\n" for label in bundle.schema.labels))

    return written(directory, write)


def _config(bundle: Bundle, name: str) -> str:
    """Returns the model's configuration in protobuf's text form."""
    schema = bundle.schema
    takes, gives, dimensions = bundle.tensors
    labels = f'    label_filename: "{LABELS}"\n' if schema.kind is Kind.CLASSIFICATION else ""
    # a model of one value gives (n,): Triton counts the batch apart, so nothing is left, which it writes as a reshape
    shape = f"dims: [ {dimensions[0]} ]" if dimensions else "dims: [ 1 ]\n    reshape: { shape: [ ] }"
    return (
        f'name: "{name}"\nbackend: "onnxruntime"\nmax_batch_size: {MOST_BATCH}\n'
        f'input [\n  {{\n    name: "{takes}"\n    data_type: TYPE_FP32\n    dims: [ {schema.features} ]\n  }}\n]\n'
        f'output [\n  {{\n    name: "{gives}"\n    data_type: TYPE_FP32\n    {shape}\n{labels}  }}\n]\n'
        "dynamic_batching { }\n"
    )
