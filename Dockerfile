# One image for every service, for the CPU and for GPUs: PyPI's torch brings its own CUDA libraries.
FROM python:3.11-slim

ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

# Who runs it owns nothing but these four folders: code and packages are root's, and read-only for the user.
RUN useradd --uid 1000 --no-create-home --home-dir /tmp yard && install -d -o yard -g yard /data /cache /store /spool

WORKDIR /app

# Gigabytes, and they seldom change: a layer of their own, before the code.
COPY requirements.lock .
RUN pip install --require-hashes -r requirements.lock

# What only some yards need, such as a file system for the store: --build-arg PACKAGES="s3fs"
ARG PACKAGES=""
RUN if [ -n "$PACKAGES" ]; then pip install $PACKAGES && pip check; fi

COPY . .
RUN pip install --no-deps --no-build-isolation --editable . && python -m compileall -q gridyard scheduler workers db jobs

# A .git folder does not come along; results record this instead.
ARG COMMIT=""
RUN printf %s "$COMMIT" > COMMIT

USER yard
ENV HOME=/tmp GRIDYARD_HOME=/tmp/yard \
    GRIDYARD_DATA=/data GRIDYARD_CACHE=/cache GRIDYARD_STORE=/store GRIDYARD_SPOOL=/spool
ENTRYPOINT ["gridyard"]
CMD ["--help"]
