# syntax=docker/dockerfile:1
# One file for all images of docker-compose.yml: gateway (our own processes), redis, servers (the demo centre and its client).

# hadolint global ignore=DL3008
# Debian's security updates replace versions, so that pinned ones could not be had any more.
FROM debian:12-slim AS base
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 LANG=C.UTF-8
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates python3 \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --gid 10001 firecrest \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin firecrest \
 && install -d -m 0755 /volumes \
 && install -d -o firecrest -g firecrest -m 0755 /volumes/public \
 && install -d -o firecrest -g firecrest -m 0700 \
      /volumes/keys /volumes/keys-api /volumes/keys-worker /volumes/keys-delegation /volumes/keys-beat /volumes/settings /volumes/redis /volumes/data \
      /volumes/uploads /volumes/certificates /volumes/flower /volumes/client /volumes/cluster /volumes/storage /volumes/issuer
# A new volume takes owner and mode from the folder that it is mounted on, hence the same folders in every image.
WORKDIR /opt/firecrest

FROM base AS python
RUN apt-get update \
 && apt-get install --yes --no-install-recommends python3-venv \
 && rm -rf /var/lib/apt/lists/*

FROM python AS gateway-packages
COPY requirements.lock ./
RUN python3 -m venv /opt/venv \
 && /opt/venv/bin/python -m pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements.lock

FROM python AS servers-packages
COPY requirements-dev.lock ./
RUN python3 -m venv /opt/venv \
 && /opt/venv/bin/python -m pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements-dev.lock
COPY site/oidc/package.json site/oidc/package-lock.json site/oidc/.npmrc site/oidc/
WORKDIR /opt/firecrest/site/oidc
RUN PATH=/opt/venv/bin:$PATH npm ci --no-fund --no-audit

FROM base AS gateway
COPY --from=gateway-packages /opt/venv /opt/venv
COPY schemas schemas
COPY broker broker
COPY workers workers
COPY api api
COPY deploy deploy
ENV PATH=/opt/venv/bin:$PATH FIRECREST_SETTINGS=/volumes/settings/settings.yaml
USER 10001:10001

FROM base AS redis
RUN apt-get update \
 && apt-get install --yes --no-install-recommends redis-server \
 && rm -rf /var/lib/apt/lists/*
USER 10001:10001
CMD ["redis-server", "/volumes/redis/redis.conf"]

FROM base AS servers
# The keys that packages make when they are installed would be the same in every container: none is used, none is kept.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends \
      bzip2 ceph-mon ceph-osd file radosgw iproute2 mariadb-server munge openssh-client openssh-server procps redis-server rsync \
      slurm-client slurm-wlm-mysql-plugin slurmctld slurmd slurmdbd unzip xz-utils \
 && rm -rf /var/lib/apt/lists/* /var/lib/mysql/* /etc/ssh/ssh_host_*_key* /etc/munge/munge.key
COPY --from=servers-packages /opt/venv /opt/venv
COPY --from=servers-packages /opt/firecrest/site/oidc/node_modules site/oidc/node_modules
COPY site site
COPY schemas schemas
COPY broker broker
COPY deploy deploy
ENV PATH=/opt/venv/bin:$PATH PYTHONPATH=/opt/firecrest:/opt/firecrest/site FIRECREST_SETTINGS=/volumes/settings/settings.yaml
USER 10001:10001
