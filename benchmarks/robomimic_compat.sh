#!/usr/bin/env bash
# robomimic 0.3.0 reads a simreal dataset and trains on it, in an environment of its own (5.6 GB, deleted
# afterwards). Usage: benchmarks/robomimic_compat.sh DATASET_FOLDER
set -euo pipefail
index=$(realpath "$1")/dataset.hdf5
script=$(realpath "$(dirname "$0")")/robomimic_compat.py
box=$(mktemp -d)
trap 'rm -rf "$box"' EXIT
python3 -m venv "$box/venv"
"$box/venv/bin/pip" install -q torch==2.14.1 torchvision==0.29.1 \
    h5py psutil tqdm termcolor tensorboard tensorboardX imageio matplotlib six
# Without its dependencies: egl_probe has to be compiled, and is needed for rendering only.
"$box/venv/bin/pip" install -q --no-deps robomimic==0.3.0
"$box/venv/bin/python" "$script" "$index"
