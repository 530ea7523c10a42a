#!/usr/bin/env bash
# All that a GPU alone can show of the speed: the tests marked gpu, then WRN-28-10's step plain, compiled and with graphs,
# prediction, checkpoints. Each part has a limit of time, 14 minutes in all, and one that fails stops no other.
#
#   benchmarks/on_gpu.sh [FOLDER] [FLAGS of wrn bench train]
#       FOLDER: where records and logs go, from the repository's root on (benchmarks/results)
#   PARTS="gpu-tests speed-gpu-compiled" benchmarks/on_gpu.sh     these parts alone, where time is short
#   PYTHON=python3 benchmarks/on_gpu.sh                           another Python than the project's
#
# Then: make results. Accuracies are runs of their own: wrn train --recipe sprint --compile, and so on.
set -u -o pipefail
cd "$(dirname "$0")/.." || exit 1
folder=benchmarks/results
if [[ $# -gt 0 && $1 != -* ]]; then
    folder=$1
    shift
fi
python=${PYTHON:-.venv/bin/python}
export PYTHONPATH=src${PYTHONPATH:+:$PYTHONPATH}
mkdir -p "$folder"
summary=()

# part NAME SECONDS COMMAND...: its output also goes to FOLDER/NAME.log.
part() {
    local name=$1 limit=$2 began=$SECONDS
    shift 2
    [[ " ${PARTS:-$name} " == *" $name "* ]] || return 0
    printf '\n== %s\n' "$name"
    timeout --signal INT --kill-after 10 "$limit" "$@" 2>&1 | tee "$folder/$name.log"
    local code=${PIPESTATUS[0]} said=ok
    [ "$code" -eq 0 ] || said="exit code $code"
    summary+=("$(printf '%-26s %4d s  %s' "$name" $((SECONDS - began)) "$said")")
}

# speed NAME FLAGS...: the record of `wrn bench train`.
speed() {
    local name=$1
    shift
    part "$name" 130 "$python" -m wrn bench train --depth 28 --widen-factor 10 --output "$folder/$name.json" "$@"
}

# Not all of tests/: those of AWS import its packages, which a machine with a GPU need not have.
part gpu-tests 180 "$python" -m pytest -q -m gpu tests/unit/{training,data,model,benchmarking} tests/integration/test_resume.py
speed speed-gpu-plain --batch-size 128 "$@"
speed speed-gpu-compiled --batch-size 128 --compile true "$@"
speed speed-gpu-graphs --batch-size 128 --compile graphs "$@"
speed speed-gpu-compiled-512 --batch-size 512 --dropout 0 --compile true "$@"
part inference-gpu 50 "$python" -m wrn bench inference --output "$folder/inference-gpu.json"
part checkpoint-gpu 80 "$python" -m wrn bench checkpoint --output "$folder/checkpoint-gpu.json"

printf '\n'
printf '%s\n' "${summary[@]}"
