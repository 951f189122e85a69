# The hub's server, or with EXTRAS=server,eval its evaluation worker, which is gigabytes larger: it brings torch.
FROM python:3.11-slim

ARG EXTRAS=server
RUN useradd --create-home --uid 1000 hub && install -d -o hub -g hub -m 0700 /data /config

WORKDIR /src
COPY constraints.txt pyproject.toml README.md ./
COPY vera vera
COPY sdk sdk
COPY hub hub
COPY migrations migrations
RUN pip install --no-cache-dir -c constraints.txt ".[${EXTRAS}]"

USER hub
VOLUME ["/data", "/config"]
EXPOSE 8000
ENTRYPOINT ["vera-hub"]
CMD ["serve", "--data", "/data", "--host", "0.0.0.0", "--allow-remote", "--no-worker"]
