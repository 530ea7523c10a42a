#!/usr/bin/env bash
# Train on AWS SageMaker: a thin wrapper of `wrn deploy`; all its flags work here too (./deploy.sh --help).
#
#   ./deploy.sh -n                      show every request and send nothing
#   ./deploy.sh -s -i ml.g5.xlarge      spot instances of this type
#   ./deploy.sh -r eu-west-1 -c 2 -m    two instances in this region, followed until the end
#
# Short forms: -r region, -i instance type, -c instance count, -s spot, -m monitor, -n dry run, -h help. They may be
# joined, with a value at the end: -sn, -mi ml.g5.xlarge, -snreu-west-1.
# Variables: AWS_REGION, S3_BUCKET, SAGEMAKER_ROLE_NAME, INSTANCE_TYPE, USE_SPOT (true or false); flags override them.
set -euo pipefail

# The folder of this file, also through symbolic links; `readlink -f` is missing on older versions of macOS.
self=${BASH_SOURCE[0]}
while [ -L "$self" ]; do
  link=$(readlink "$self")
  case "$link" in
    /*) self=$link ;;
    *) self=$(dirname -- "$self")/$link ;;
  esac
done
here=$(CDPATH='' cd -P -- "$(dirname -- "$self")" && pwd)
arguments=()

if [ -n "${AWS_REGION:-}" ]; then arguments+=("--region=$AWS_REGION"); fi
if [ -n "${S3_BUCKET:-}" ]; then arguments+=("--bucket=$S3_BUCKET"); fi
if [ -n "${SAGEMAKER_ROLE_NAME:-}" ]; then arguments+=("--role-name=$SAGEMAKER_ROLE_NAME"); fi
if [ -n "${INSTANCE_TYPE:-}" ]; then arguments+=("--instance-type=$INSTANCE_TYPE"); fi
case "${USE_SPOT:-false}" in
  1 | true | True | TRUE | yes) arguments+=(--spot) ;;
  0 | false | False | FALSE | no) ;;
  *)
    printf 'deploy.sh: USE_SPOT is %q; give true or false\n' "$USE_SPOT" >&2
    exit 2
    ;;
esac

joined='^-[smnh]*([smnh]|[ric].*)$'
while [ $# -gt 0 ]; do
  word=$1
  shift
  if [[ ! $word =~ $joined ]]; then
    arguments+=("$word")
    continue
  fi
  letters=${word#-}
  while [ -n "$letters" ]; do
    letter=${letters:0:1}
    letters=${letters:1}
    case "$letter" in
      s) arguments+=(--spot); continue ;;
      m) arguments+=(--monitor); continue ;;
      n) arguments+=(--dry-run); continue ;;
      h) arguments+=(--help); continue ;;
      r) flag=region ;;
      i) flag=instance-type ;;
      c) flag=instance-count ;;
    esac
    # The rest of the word is the value, else the next word.
    if [ -z "$letters" ]; then
      if [ $# -eq 0 ]; then
        printf 'deploy.sh: -%s needs a value; see ./deploy.sh -h\n' "$letter" >&2
        exit 2
      fi
      letters=$1
      shift
    fi
    arguments+=("--$flag=$letters")
    letters=
  done
done

# What runs, and what is sent, is the code of this folder, whatever `wrn` is installed. Of an installed one only the
# Python is used, if it has what this code needs; otherwise this folder gets its own, on the first call.
python=
if [ ! -d "$here/.venv" ] && wrn=$(command -v wrn); then
  IFS= read -r first <"$wrn" || true
  python=${first#'#!'}
  case "$python" in
    */python*) "$python" "$here/src/wrn/aws/installed.py" "$here/src/requirements.txt" >/dev/null || python= ;;
    *) python= ;;
  esac
fi
if [ -z "$python" ]; then
  make --silent -C "$here" .venv/.installed-aws >&2
  python=$here/.venv/bin/python
fi
# Ahead of anything installed; a folder that was copied has a .venv that would run the code of the original.
export PYTHONPATH="$here/src${PYTHONPATH:+:$PYTHONPATH}" PYTHONSAFEPATH=1
exec "$python" -m wrn deploy ${arguments[@]+"${arguments[@]}"}
