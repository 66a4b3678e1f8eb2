#!/bin/sh
# Makes the stubs from the protocol with Python's own tool.
set -eu
cd "$(dirname "$0")"
mkdir -p gen
python3 -m grpc_tools.protoc -I ../../proto --python_out=gen --pyi_out=gen --grpc_python_out=gen \
    ../../proto/concord/v1/*.proto
