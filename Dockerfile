# The image of every Crawlyard process: `docker run … worker`, `beat`, `migrate`, `health` and so on.

FROM python:3.13-slim AS build
WORKDIR /src
ENV UV_NO_CACHE=1 UV_COMPILE_BYTECODE=1 UV_PYTHON_DOWNLOADS=never

# Of what developers use the build needs uv alone. Everything is checked against its hash, what the
# build backend needs too, which pip cannot do.
COPY requirements/ requirements/
RUN awk '/^[^ ]/ {wanted = /^uv==/} wanted' requirements/dev.txt > uv.txt \
    && pip install --no-cache-dir --root-user-action ignore --require-hashes --only-binary :all: -r uv.txt

# Before our own code, so that a change of it leaves this layer alone.
RUN python -m venv --without-pip /opt/crawlyard \
    && uv pip install --python /opt/crawlyard --require-hashes --only-binary :all: -r requirements/runtime.txt

COPY pyproject.toml README.md LICENSE celeryconfig.py ./
COPY console/ console/
COPY gateway/ gateway/
COPY persistence/ persistence/
COPY tasks/ tasks/
RUN uv build --wheel --out-dir dist --build-constraints requirements/dev.txt --require-hashes . \
    && uv pip install --python /opt/crawlyard --offline --no-deps dist/*.whl


FROM python:3.13-slim
COPY --from=build /opt/crawlyard /opt/crawlyard
# The byte code is there already, and the file system may be read-only.
ENV PATH=/opt/crawlyard/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
# A number, so that whoever forbids root can see that it is none.
USER 10001:10001
ENTRYPOINT ["crawlyard"]
CMD ["--help"]
