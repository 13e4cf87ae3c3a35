# One image for every member; compose.yaml says which one a container is.
FROM python:3.11-slim-bookworm AS build

# Options for every pip call, such as an index of your own: --extra-index-url with PyTorch's index of CPU wheels
# keeps gigabytes of CUDA out of the image.
ARG PIP_ARGS=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1

RUN python3 -m venv /opt/xpod
WORKDIR /src

# The dependencies, in layers that outlive a change of the code.
COPY pyproject.toml ./
RUN /opt/xpod/bin/python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; print(*p['dependencies'], *p['optional-dependencies']['otel'], sep='\n')" > requirements.txt
RUN grep '^torch==' requirements.txt \
    | xargs /opt/xpod/bin/pip install --timeout 15 --retries 2 --no-deps $PIP_ARGS
RUN /opt/xpod/bin/pip install $PIP_ARGS --requirement requirements.txt

COPY LICENSE README.md compose.yaml ./
COPY proto proto
COPY shared shared
COPY services services
RUN /opt/xpod/bin/pip install $PIP_ARGS --no-deps . \
    && cp -r "$(cd / && /opt/xpod/bin/python -c 'from xpod_model.demo import demo_path; print(demo_path())')" /model \
    && mkdir /model/mounted \
    && chmod -R a+rX /model /opt/xpod


FROM python:3.11-slim-bookworm

RUN useradd --system --uid 10001 --home-dir /data xpod && install -d -o xpod -g xpod /data
COPY --from=build /opt/xpod /opt/xpod
COPY --from=build /model /model
ENV PATH=/opt/xpod/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false \
    XPOD_HOST=0.0.0.0 XPOD_DATA=/data XPOD_MODEL=/model
USER xpod
WORKDIR /data
EXPOSE 8000
CMD ["xpod", "--help"]
