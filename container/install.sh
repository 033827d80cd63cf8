#!/bin/sh
# Installs medrestore as the container ships it: its own Python environment, PyTorch for CPUs, the weights inside, and
# nothing that only an installation needs. Dockerfile, Apptainer.def and the tests run this and nothing else.
#
#   install.sh SOURCE PREFIX
#
# SOURCE is a clone, PREFIX a folder that does not exist yet; it is not moved afterwards. Environment:
#   TORCH       what pip installs PyTorch as
#   TORCH_ARGS  from where; the index of its builds without CUDA, as the Python package index has those with CUDA
#   PIP_ARGS    from where everything else
set -eu
source=$1
prefix=$2
: "${TORCH:=torch==2.13.0}"
: "${TORCH_ARGS:=--index-url https://download.pytorch.org/whl/cpu}"
: "${PIP_ARGS:=}"

if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q
    apt-get install -qy --no-install-recommends python3 python3-venv
    rm -rf /var/lib/apt/lists/*
fi

python3 -m venv "$prefix"
pip() {
    "$prefix/bin/python" -m pip --no-cache-dir --disable-pip-version-check --quiet "$@"
}
# shellcheck disable=SC2086  # arguments are words
pip install $TORCH_ARGS "$TORCH"
# shellcheck disable=SC2086
pip install $PIP_ARGS "$source[batch,node,sr,train]"
install -m 0755 "$source/container/entrypoint.sh" "$prefix/bin/medrestore-container"

# Tests of packages and what others are compiled against: a quarter of a gigabyte.
find "$prefix" -type d \( -name tests -o -path '*/torch/test' -o -path '*/torch/include' \) -prune -exec rm -rf {} +

# Whoever runs it may be anybody, and writes nothing here.
chmod -R a+rX,go-w "$prefix"
"$prefix/bin/medrestore" models >/dev/null
