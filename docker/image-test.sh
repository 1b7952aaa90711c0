#!/bin/sh
# Builds docker/Dockerfile without docker and runs what came out as a cluster does: read-only, as a user that it does not
# know, without any capability. `make image-test`; needs root and Debian's buildah, podman, runc and debootstrap.
#   BASE           image to build on; without it one is made with debootstrap
#   TORCH_INDEX    wheel index of torch
#   BUILD_OPTIONS  further words for buildah, e.g. -v for a mirror of packages on this machine
set -eu
for tool in buildah podman runc debootstrap; do
    command -v "$tool" > /dev/null && continue
    echo "image-test: skipped, there is no $tool (apt-get install buildah podman runc debootstrap)"
    exit 0
done
[ "$(id -u)" = 0 ] || { echo "image-test: skipped, it needs root"; exit 0; }

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
image=localhost/python-caloforge:image-test

if [ -z "${BASE:-}" ]; then
    BASE=localhost/python-base:image-test
    if ! buildah inspect --type image "$BASE" > /dev/null 2>&1; then
        debootstrap --variant=minbase --include=ca-certificates,python3,python3-pip,python3-venv bookworm "$scratch/root"
        ln -s python3 "$scratch/root/usr/bin/python"
        rm -f "$scratch/root/usr/lib/python3.11/EXTERNALLY-MANAGED"
        container=$(buildah from scratch)
        buildah copy --quiet "$container" "$scratch/root" /
        buildah commit --quiet --rm "$container" "$BASE"
    fi
fi

# shellcheck disable=SC2086 # options are words
buildah build --isolation chroot --file docker/Dockerfile --tag "$image" --build-arg "BASE=$BASE" \
    --build-arg "TORCH_INDEX=${TORCH_INDEX:-https://download.pytorch.org/whl/cpu}" ${BUILD_OPTIONS:-} .

caloforge compile --output "$scratch/pipeline.yaml"
cp docker/check.py "$scratch/"
chmod 755 "$scratch"
cat > "$scratch/inside.sh" << 'INSIDE'
set -eu
cd /tmp
fail() { echo "image-test: $1" >&2; exit 1; }
! touch /opt/caloforge/x 2> /dev/null || fail "the root file system can be written"
grep -q '^CapEff:[[:space:]]*0*$' /proc/self/status || fail "there are capabilities"
for tool in c++ g++ cc; do ! command -v "$tool" || fail "$tool is there"; done
python /check/check.py /check/pipeline.yaml /opt/caloforge/bin
data=$(python -c 'from importlib.resources import files; print(files("caloforge") / "data" / "demo_showers.hdf5")')
caloforge preprocess --data "$data" -o prepared
for net in totals layers rings cells; do echo "$net: {steps: 5}"; done > overrides.yaml
caloforge train --data "$data" --prepared prepared --family tree --overrides overrides.yaml -o bundle
python - << 'SAMPLER'
from pathlib import Path
from caloforge.domain import spread_over
from caloforge.models.bundle import load_bundle
from caloforge.models.engines.variant import Variant
generator, folder = load_bundle(Path("bundle")), Path("bundle")
generator.run_as(Variant(name="C++", engine="cpp", threads=1), folder)  # compares showers with PyTorch's
print("C++:", generator.sample(spread_over(generator.domains, 100), seed=1).shape, "showers, without a compiler")
SAMPLER
echo "image-test: built; two steps, a trial, the server and the sampler in C++ work, read-only, as user $(id -u)"
INSIDE
podman --runtime runc run --rm --network none --read-only --tmpfs /tmp --cap-drop all --user 123456:0 \
    --ulimit nofile=1024:1024 --ulimit nproc=4096:4096 --volume "$scratch:/check:ro" \
    --env OMP_NUM_THREADS=1 "$image" sh /check/inside.sh
