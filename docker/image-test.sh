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

cat > "$scratch/inside.sh" << 'INSIDE'
set -eu
cd /tmp
data=$(python -c 'from importlib.resources import files; print(files("caloforge") / "data" / "demo_showers.hdf5")')
printf 'training: {steps: 5}\nenergies: {steps: 5}\n' > overrides.yaml
caloforge preprocess --data "$data" -o prepared
caloforge train --data "$data" --prepared prepared --family vae --overrides overrides.yaml -o bundle
caloforge serve --bundle bundle &
for _ in $(seq 60); do
    sleep 2
    if caloforge query --url http://127.0.0.1:8080 --energy 20000 --n 3 -o showers.hdf5; then
        echo "image-test: built, trained, served and answered, read-only, as user $(id -u)"
        exit 0
    fi
done
exit 1
INSIDE
podman --runtime runc run --rm --network none --read-only --tmpfs /tmp --cap-drop all --user 123456:0 \
    --ulimit nofile=1024:1024 --ulimit nproc=4096:4096 --volume "$scratch/inside.sh:/inside.sh:ro" \
    --env OMP_NUM_THREADS=1 "$image" sh /inside.sh
