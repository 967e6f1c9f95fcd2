#!/bin/sh
# Makes open_inference_pb2.py and .pyi of open_inference.proto; run it after a change of that file.
# The compiler goes into a venv of its own: the program needs only what it makes. An old one, because what it makes runs
# with its own protobuf (6.31) and the next major one.
set -eu
cd "$(dirname "$0")/../.."
tools=.venv/grpc-tools
[ -x "$tools/bin/python" ] || python3 -m venv "$tools"
"$tools/bin/python" -m pip --disable-pip-version-check --quiet install 'grpcio-tools==1.74.0'
"$tools/bin/python" -m grpc_tools.protoc --proto_path=. --python_out=. --pyi_out=. deploy/answering/open_inference.proto
for made in deploy/answering/open_inference_pb2.py deploy/answering/open_inference_pb2.pyi; do
    { printf '# Made by open_inference.sh; not to be edited.\n# ruff: noqa\n# fmt: off\n# mypy: ignore-errors\n'
      cat "$made"; } >"$made.new"
    mv "$made.new" "$made"
done
