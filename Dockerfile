# Two images: the suite (the last stage, the default), and etcd (--target etcd) from the same Debian packages.

FROM debian:bookworm-slim AS etcd
RUN apt-get update \
    && apt-get install -y --no-install-recommends etcd-server etcd-client \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 9700 pilotfish \
    && useradd --uid 9700 --gid 9700 --no-create-home --home-dir /var/lib/etcd --shell /usr/sbin/nologin pilotfish \
    && install -d -o 9700 -g 9700 -m 0700 /var/lib/etcd
# etcd 3.4 wants to be told that arm64 is meant; elsewhere it ignores this.
ENV ETCD_DATA_DIR=/var/lib/etcd ETCD_UNSUPPORTED_ARCH=arm64
USER pilotfish
VOLUME /var/lib/etcd
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["etcdctl", "endpoint", "health"]
CMD ["etcd"]


FROM debian:bookworm-slim AS base
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 nginx libnginx-mod-stream ca-certificates \
    && rm -rf /var/lib/apt/lists/* /var/www/html


FROM base AS build
RUN apt-get update && apt-get install -y --no-install-recommends python3-venv
COPY . /src
RUN if ls /src/wheels/*.whl >/dev/null 2>&1; then export PIP_NO_INDEX=1 PIP_FIND_LINKS=/src/wheels; fi \
    && python3 -m venv /opt/pilotfish \
    && /opt/pilotfish/bin/pip install --no-cache-dir /src \
    && /opt/pilotfish/bin/pip uninstall -y pip setuptools


FROM base
RUN groupadd --gid 9700 pilotfish \
    && useradd --uid 9700 --gid 9700 --no-create-home --home-dir /var/lib/pilotfish --shell /usr/sbin/nologin pilotfish \
    && install -d -o 9700 -g 9700 -m 0700 /var/lib/pilotfish
COPY --from=build /opt/pilotfish /opt/pilotfish
COPY fig/start.sh /usr/local/bin/start.sh
# The data folder of a user without root is $XDG_DATA_HOME/pilotfish.
ENV PATH=/opt/pilotfish/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    XDG_DATA_HOME=/var/lib
VOLUME /var/lib/pilotfish
# start.sh becomes the user pilotfish; it begins as root to keep the right to ports below 1024.
ENTRYPOINT ["start.sh"]
CMD ["pilotfish", "up"]
# Asks at PILOTFISH_STATUS, or at the address that `pilotfish up` has by default.
HEALTHCHECK --interval=15s --timeout=10s --start-period=20s CMD ["pilotfish", "health"]
