# docker build --build-arg TORCH_INDEX_URL=… -t streaming-asr .
# TORCH_INDEX_URL: PyTorch's package index for CPUs. Without it pip takes the build with CUDA, some GB that nothing uses.
FROM python:3.11-slim AS build
ARG TORCH_INDEX_URL=
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY streaming_asr ./streaming_asr
RUN python -m venv /opt/streaming-asr \
 && /opt/streaming-asr/bin/pip install --no-cache-dir \
    ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} '.[containers]'

FROM python:3.11-slim
COPY --from=build /opt/streaming-asr /opt/streaming-asr
RUN useradd --system --uid 10001 --no-create-home asr \
 && install --directory --owner asr /var/cache/streaming-asr
USER asr
# The decoder is compiled for the processor that it runs on, and kept there; so is what it searches, read once.
VOLUME /var/cache/streaming-asr
ENV PATH=/opt/streaming-asr/bin:$PATH \
    NUMBA_CACHE_DIR=/var/cache/streaming-asr \
    XDG_CACHE_HOME=/var/cache/streaming-asr \
    PYTHONDONTWRITEBYTECODE=1 \
    STREAMING_ASR_HOST=0.0.0.0 \
    STREAMING_ASR_PORT=8765
EXPOSE 8765
HEALTHCHECK --interval=10s --timeout=5s --start-period=180s \
    CMD ["python", "-c", "\
import os, ssl, urllib.request; \
scheme = 'https' if os.environ.get('STREAMING_ASR_TLS_CERT') else 'http'; \
url = scheme + '://127.0.0.1:' + os.environ['STREAMING_ASR_PORT'] + '/healthz'; \
urllib.request.urlopen(url, timeout=4, context=ssl._create_unverified_context())"]
# Refuses to start without STREAMING_ASR_KEYS=FILE, or STREAMING_ASR_INSECURE=yes.
ENTRYPOINT ["streaming-asr", "serve"]
