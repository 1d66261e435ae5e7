#!/bin/sh
# Installs locked Python packages, as both images have them: packages.sh REQUIREMENTS FOLDER
# Two optional build secrets, neither of which stays in the image: `ca`, a CA bundle for sites whose proxy re-signs TLS, and `pip`,
# a pip.conf that names another package index. An empty file counts as none.
set -eu
if [ -s /run/secrets/ca.pem ]; then export PIP_CERT=/run/secrets/ca.pem; fi
if [ -s /run/secrets/pip.conf ]; then export PIP_CONFIG_FILE=/run/secrets/pip.conf; fi
python3 -m pip install --no-cache-dir --disable-pip-version-check --root-user-action=ignore --no-compile \
    --only-binary=:all: --require-hashes --requirement "$1" --target "$2"
find "$2" -type d -name tests -prune -exec rm -rf {} +
rm -rf "$2/bin"
# The root is read-only when an image runs, and each health check is a new process: byte code that is not here would be made anew by each,
# for seconds. It is trusted by its name alone, since files may get other times on their way into an image.
python3 -m compileall -q --invalidation-mode unchecked-hash "$2"
