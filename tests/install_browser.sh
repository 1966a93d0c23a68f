#!/bin/sh
# Finds Chromium for the browser tests, and installs it where that is possible.
set -eu
for name in chromium chromium-browser google-chrome google-chrome-stable; do
    if command -v "$name" >/dev/null 2>&1; then exit 0; fi
done
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "Installing Chromium with apt-get."
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null
    exit 0
fi
"$1/playwright" install chromium && exit 0
echo "The browser tests need Chromium: install it (Debian: apt-get install chromium)." >&2
exit 1
