"""Can robomimic train on a simreal dataset? Run by robomimic_compat.sh, in an environment without simreal.

robomimic's own SequenceDataset reads the index, and its own BC takes a few steps on every proprioceptive,
state and image observation in it. Fails if the loss does not fall.
"""

import sys

import h5py
import numpy as np
import robomimic
import robomimic.utils.file_utils as FileUtils
import robomimic.utils.obs_utils as ObsUtils
import robomimic.utils.train_utils as TrainUtils
import torch
from robomimic.algo import algo_factory
from robomimic.config import config_factory
from torch.utils.data import DataLoader

STEPS, BATCH = 20, 16


def main(index: str) -> None:
    """Train BC on ``index`` (dataset.hdf5)."""
    torch.manual_seed(0)
    names, images = observations(index)
    config = config_factory("bc")
    with config.unlocked():
        config.train.data = index
        config.train.hdf5_cache_mode = None
        config.train.seq_length = 4
        config.observation.modalities.obs.low_dim = [name for name in names if name not in images]
        config.observation.modalities.obs.rgb = images
    ObsUtils.initialize_obs_utils_with_config(config)
    environment = FileUtils.get_env_metadata_from_dataset(index)
    shapes = FileUtils.get_shape_metadata_from_dataset(index, all_obs_keys=config.all_obs_keys)
    dataset, _ = TrainUtils.load_data_for_training(config, shapes["all_obs_keys"])
    model = algo_factory("bc", config, shapes["all_shapes"], shapes["ac_dim"], torch.device("cpu"))
    loader = DataLoader(dataset, batch_size=BATCH, shuffle=True)
    losses = [TrainUtils.run_epoch(model, loader, epoch, num_steps=STEPS)["Loss"] for epoch in range(3)]
    print(f"robomimic {robomimic.__version__}, torch {torch.__version__}, numpy {np.__version__}")
    print(f"{environment['env_name']}: {dataset.n_demos} demonstrations, {len(dataset)} sequences of {names}")
    print("mean BC loss of three times 20 steps:", " ".join(f"{loss:.4f}" for loss in losses))
    if not losses[-1] < losses[0]:
        raise SystemExit("The loss did not fall.")


def observations(index: str) -> tuple[list[str], list[str]]:
    """Names of the observations without depth, and which of them are images."""
    with h5py.File(index) as file:
        obs = next(iter(file["data"].values()))["obs"]
        names = [name for name in obs if not name.endswith("_depth")]
        return names, [name for name in names if obs[name].ndim == 4]


if __name__ == "__main__":
    main(sys.argv[1])
