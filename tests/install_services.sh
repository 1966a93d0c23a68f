#!/bin/sh
# Finds PostgreSQL and Redis for the tests, and installs them where that is possible.
set -eu
found() {
    command -v redis-server >/dev/null 2>&1 || return 1
    command -v postgres >/dev/null 2>&1 || ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1
}
if found; then exit 0; fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "Installing PostgreSQL and Redis with apt-get."
    # The tests start their own; this keeps the packages from starting theirs.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        trap 'rm -f "$policy"' EXIT
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        postgresql redis-server >/dev/null
    if found; then exit 0; fi
fi
echo "The tests need PostgreSQL and Redis:" \
    "install them (Debian: apt-get install postgresql redis-server)." >&2
exit 1
