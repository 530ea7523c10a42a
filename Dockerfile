# An image to train in, on SageMaker or anywhere with a container engine: Python, torch and requirements.txt.
#
#   wrn image push && wrn deploy --image-uri auto          build, send to the account's registry, train there
#   docker run --rm --gpus all -v "$PWD:/opt/ml/code" wrn:TAG python src/train.py --recipe quickstart
#
# docker needs its buildx plugin for this file; podman and finch have what it takes.
#
# The code is not in it: a job brings its own, so the image stays the same while the code changes, and its tag is made
# of this file and requirements.txt. AWS's own image (the default) has more in it, such as EFA for many machines.
#
# The same versions at each build: torch is pinned, and of everything else the newest before UNTIL is taken.

FROM docker.io/library/python:3.12-slim-bookworm AS tools
RUN pip install --no-cache-dir --disable-pip-version-check --root-user-action ignore --target /tools uv==0.13.9

# torch's CUDA 13.0 asks for driver 580 or newer. Hosts may have an older one: container.sh then takes these libraries of
# a newer driver, which AWS's own images have at the same place.
FROM docker.io/nvidia/cuda:13.0.2-base-ubuntu24.04 AS driver
RUN apt-get update && apt-get install --yes --no-install-recommends cuda-compat-13-0

FROM docker.io/library/python:3.12-slim-bookworm
LABEL created-by=wrn

# torch.compile has its kernels built by gcc, those of the CPU by g++, as are our own.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ libc6-dev \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/ldconfig/aux-cache /var/log/*

# The last two ask the host for the driver, as NVIDIA's own images do.
ENV PYTHONUNBUFFERED=1 \
    PYC_INVALIDATION_MODE=unchecked-hash \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

COPY --from=driver /usr/local/cuda-13.0/compat /usr/local/cuda/compat

ARG UNTIL=2026-11-20T00:00:00Z

# The large layer by itself: it changes with the version of torch alone.
ARG TORCH=torch==2.13.0
RUN --mount=type=bind,from=tools,source=/tools/bin/uv,target=/usr/local/bin/uv \
    uv pip install --system --no-cache --compile-bytecode --exclude-newer "$UNTIL" "$TORCH" numpy

RUN --mount=type=bind,from=tools,source=/tools/bin/uv,target=/usr/local/bin/uv \
    --mount=type=bind,source=requirements.txt,target=/tmp/requirements.txt \
    uv pip install --system --no-cache --compile-bytecode --exclude-newer "$UNTIL" -r /tmp/requirements.txt

# SageMaker gives /opt/ml to root, and takes the results from there.
WORKDIR /opt/ml/code
CMD ["/bin/bash", "src/wrn/aws/container.sh"]
