#!/bin/sh
# Remove from an environment what is never imported: sh prune.sh FOLDER
set -eu
site=$(echo "$1"/lib/python3.*/site-packages)
find "$site" -type d -name tests -prune -exec rm -rf {} +
rm -rf "$site/torch/include" "$site/torch/test" "$site/torch/share"
