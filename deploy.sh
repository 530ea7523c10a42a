#!/usr/bin/env bash
# Train on AWS SageMaker: a thin wrapper of `wrn deploy`; all its flags work here too (./deploy.sh --help).
#
#   ./deploy.sh -n                      show every request and send nothing
#   ./deploy.sh -s -i ml.g5.xlarge      spot instances of this type
#   ./deploy.sh -r eu-west-1 -c 2 -m    two instances in this region, followed until the end
#
# Short forms: -r region, -i instance type, -c instance count, -s spot, -m monitor, -n dry run, -h help.
# Variables: AWS_REGION, S3_BUCKET, SAGEMAKER_ROLE_NAME, INSTANCE_TYPE, USE_SPOT (true or false); flags override them.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
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

value() { # value FLAG COUNT: a flag that takes a value must be followed by one
  if [ "$2" -lt 2 ]; then
    printf 'deploy.sh: %s needs a value; see ./deploy.sh -h\n' "$1" >&2
    exit 2
  fi
}

while [ $# -gt 0 ]; do
  case "$1" in
    -r) value "$1" $#; arguments+=("--region=$2"); shift 2 ;;
    -i) value "$1" $#; arguments+=("--instance-type=$2"); shift 2 ;;
    -c) value "$1" $#; arguments+=("--instance-count=$2"); shift 2 ;;
    -s) arguments+=(--spot); shift ;;
    -m) arguments+=(--monitor); shift ;;
    -n) arguments+=(--dry-run); shift ;;
    -h) arguments+=(--help); shift ;;
    *) arguments+=("$1"); shift ;;
  esac
done

# Use an installed `wrn`, else the one of this folder, which is set up on the first call.
if [ ! -d "$here/.venv" ] && command -v wrn >/dev/null; then
  exec wrn deploy ${arguments[@]+"${arguments[@]}"}
fi
make --silent -C "$here" .venv/.installed-aws >&2
exec "$here/.venv/bin/wrn" deploy ${arguments[@]+"${arguments[@]}"}
