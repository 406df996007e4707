# simkit as a command: docker build -t simkit . && docker run --rm -v "$PWD/results:/work" simkit run josh --tasks 50
FROM python:3.13-slim
RUN useradd --create-home simkit && mkdir /work && chown simkit /work
COPY . /src
RUN pip install --no-cache-dir --require-hashes --no-deps -r /src/locks/demo.txt \
    && pip install --no-cache-dir --no-deps --no-build-isolation /src \
    && rm -rf /src
USER simkit
WORKDIR /work
ENTRYPOINT ["simkit"]
CMD ["--help"]
