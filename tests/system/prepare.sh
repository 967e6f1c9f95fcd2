#!/usr/bin/env bash
# What the system tests need beside python packages. As root it is installed where it is missing; else it is named, and
# which tests are left out for want of it. With the word `moto` the S3 server only, for benchmarks/storage.py.
set -euo pipefail

export PATH="$PATH:/usr/sbin:/sbin"
if [[ ${1:-} != moto ]]; then
    declare -A packages=([sshd]=openssh-server [rsync]=rsync [ip]=iproute2 [redis-server]=redis-server)
    lacking=()
    for program in "${!packages[@]}"; do
        command -v "$program" >/dev/null || lacking+=("${packages[$program]}")
    done

    if [[ ${#lacking[@]} -gt 0 && $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
        echo "installing ${lacking[*]}…"
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${lacking[@]}" \
            >/dev/null && lacking=()
    fi
    hosts="tests/system/test_cluster.py, test_head_loss.py and test_aws.py are left out"
    [[ ${#lacking[@]} == 0 ]] || echo "missing: ${lacking[*]}; $hosts"
    [[ $(id -u) == 0 ]] || echo "not root: $hosts, hosts out of namespaces need it"
fi

command -v cc >/dev/null || echo "missing: a C compiler; tests/system/test_clock_jumps.py is left out"

# beside the venv: botocore and our pins do not agree on python-dateutil
cd "$(dirname "$0")/../.."
pip=(-m pip --disable-pip-version-check --quiet install)
if [[ ! -x .venv/moto/bin/moto_server ]]; then
    echo "installing moto into .venv/moto…"
    { .venv/bin/python -m venv .venv/moto && .venv/moto/bin/python "${pip[@]}" 'moto[server]'; } ||
        echo "missing: moto; tests/system/test_object_storage.py and test_aws.py are left out"
fi
if [[ ${1:-} != moto && ! -d .venv/aws/boto3 ]]; then
    echo "installing boto3 into .venv/aws…"
    .venv/bin/python "${pip[@]}" --target .venv/aws boto3 2>/dev/null ||
        echo "missing: boto3; tests/system/test_aws.py is left out"
fi

# a protobuf other than Serve's, a browser for the endpoint's page, and what makes requests of its OpenAPI document
if [[ ${1:-} != moto ]]; then
    if [[ ! -d .venv/triton/lib ]]; then
        echo "installing tritonclient into .venv/triton…"
        { .venv/bin/python -m venv .venv/triton && .venv/triton/bin/python "${pip[@]}" 'tritonclient[http,grpc]'; } ||
            { rm -rf .venv/triton; echo "missing: tritonclient; tests/system/test_triton_client.py is left out"; }
    fi
    if ! command -v chromium >/dev/null && [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
        echo "installing chromium…"
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium \
            fonts-dejavu-core >/dev/null || true
    fi
    if [[ ! -d .venv/browser/lib ]]; then
        echo "installing playwright into .venv/browser…"
        { .venv/bin/python -m venv .venv/browser && .venv/browser/bin/python "${pip[@]}" playwright; } ||
            { rm -rf .venv/browser; echo "missing: playwright; tests/system/test_docs_page.py is left out"; }
    fi
    if [[ ! -x .venv/fuzz/bin/st ]]; then
        echo "installing schemathesis into .venv/fuzz…"
        { .venv/bin/python -m venv .venv/fuzz && .venv/fuzz/bin/python "${pip[@]}" schemathesis; } ||
            { rm -rf .venv/fuzz; echo "missing: schemathesis; tests/system/test_openapi_fuzz.py is left out"; }
    fi
    command -v chromium >/dev/null || command -v google-chrome >/dev/null ||
        echo "missing: chromium; tests/system/test_docs_page.py is left out"
fi
