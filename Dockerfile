# A training image for SageMaker or any container engine: Python, torch and src/requirements.txt.
#
#   wrn image push && wrn deploy --image-uri auto          build, push to the account's registry, train there
#   docker run --rm --gpus all -v "$PWD:/opt/ml/code" wrn:TAG python src/train.py --recipe quickstart
#
# docker needs its buildx plugin for this file; podman and finch work as they are.
#
# The code is not in it: a job brings its own, so the image stays the same while the code changes. Its tag is a hash of
# this file and src/requirements.txt. AWS's own image (the default) contains more, such as EFA for multi-node training.
#
# Builds are reproducible: torch is pinned, and everything else is the newest version before UNTIL.

FROM docker.io/library/python:3.12-slim-bookworm AS tools
RUN pip install --no-cache-dir --disable-pip-version-check --root-user-action ignore --target /tools uv==0.13.9

# torch's CUDA 13.0 needs driver 580 or newer. For hosts with an older one, container.sh uses these libraries of a newer
# driver, which AWS's own images have in the same place.
FROM docker.io/nvidia/cuda:13.0.2-base-ubuntu24.04 AS driver
RUN apt-get update && apt-get install --yes --no-install-recommends cuda-compat-13-0

FROM docker.io/library/python:3.12-slim-bookworm
LABEL created-by=wrn

# torch.compile builds its kernels with gcc, those for the CPU with g++, which also builds wrn's own.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ libc6-dev \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/ldconfig/aux-cache /var/log/*

# The last two request the host's driver, as NVIDIA's own images do.
ENV PYTHONUNBUFFERED=1 \
    PYC_INVALIDATION_MODE=unchecked-hash \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

COPY --from=driver /usr/local/cuda-13.0/compat /usr/local/cuda/compat

ARG UNTIL=2026-11-20T00:00:00Z

# The large layer separately: it changes only with the version of torch.
ARG TORCH=torch==2.13.0
RUN --mount=type=bind,from=tools,source=/tools/bin/uv,target=/usr/local/bin/uv \
    uv pip install --system --no-cache --compile-bytecode --exclude-newer "$UNTIL" "$TORCH" numpy

RUN --mount=type=bind,from=tools,source=/tools/bin/uv,target=/usr/local/bin/uv \
    --mount=type=bind,source=src/requirements.txt,target=/tmp/requirements.txt \
    uv pip install --system --no-cache --compile-bytecode --exclude-newer "$UNTIL" -r /tmp/requirements.txt

# On SageMaker /opt/ml belongs to root, and results are collected from there.
WORKDIR /opt/ml/code
CMD ["/bin/bash", "src/wrn/aws/container.sh"]
