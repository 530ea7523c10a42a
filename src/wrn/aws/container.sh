#!/bin/bash
# What a SageMaker training container runs after unpacking the code; it becomes `python src/train.py`, as process 1.
#
# `exec` matters: process 1 gets SIGTERM before a spot instance is reclaimed or a job is stopped, and a shell
# in its place would ignore it. The hyperparameters are in /opt/ml/input/config, where `wrn train` reads them.
set -euo pipefail
cd "$(dirname "$0")/../../.."

# AWS's images include newer CUDA user libraries for hosts with an older driver, and enable them in an entry point
# that this script replaces.
if [ -d /usr/local/cuda/compat ] && [ -r /proc/driver/nvidia/version ]; then
  library=$(readlink -f /usr/local/cuda/compat/libcuda.so.1 2>/dev/null || true)
  newest=${library##*/libcuda.so.}
  # The first number with a dot in it: NVIDIA's open kernel module names the processor (x86_64) before its version.
  driver=$(sed -n 's/^NVRM[^.]* \([0-9][0-9]*\.[0-9.]*\) .*/\1/p' /proc/driver/nvidia/version)
  if [ -n "$newest" ] && [ -n "$driver" ] && [ "$driver" != "$newest" ] &&
    [ "$(printf '%s\n' "$driver" "$newest" | sort -V | head -n 1)" = "$driver" ]; then
    export LD_LIBRARY_PATH="/usr/local/cuda/compat${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
  fi
fi

base="${SAGEMAKER_BASE_DIR:-/opt/ml}"
give_up() { # SageMaker reads why a job failed from a file
  printf '%s\n' "$1" >&2
  if [ -d "$base/output" ]; then printf '%s' "$1" >"$base/output/failure"; fi
  exit 1
}
# Process 1 gets no signal without a handler for it: without this, stopping here would take the two minutes until it
# is killed.
trap 'exit 143' TERM

python=$(command -v python || command -v python3)
if [ -f src/requirements.txt ] && ! missing=$("$python" - src/requirements.txt <src/wrn/aws/installed.py); then
  if ! "$python" -c 'import pip' 2>/dev/null; then
    give_up "$python has no pip and lacks $missing; install that in the image"
  fi
  install() {
    "$python" -m pip install --quiet --disable-pip-version-check --root-user-action ignore "$@" -r src/requirements.txt
  }
  # A job that may have no network brings the packages along, in their own channel. They do not fit every Python, and a
  # package index may be reachable all the same.
  wheels="$base/input/data/wheels"
  if ! { [ -d "$wheels" ] && install --no-index --find-links "$wheels"; }; then
    install || give_up "pip could not install $missing; the log says why"
  fi
fi
export PYTHONUNBUFFERED=1
exec "$python" src/train.py "$@"
