"""The trained policy: encoder and head as one network, and the actor that runs it in a world."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import one_hot

from simreal_agents.policies.acting import DEFAULT_ACTING, Acting, Actions, ChunkActor
from simreal_agents.policies.actions import ORIENTATION, ActionCodec, policy_inputs
from simreal_agents.policies.checkpoint import WEIGHTS, find_checkpoint, read_state
from simreal_agents.policies.config import TrainConfig, act_with
from simreal_agents.policies.encoders import JoinedEncoder, needed_arrays, prepared
from simreal_agents.policies.facing import Sight, check_sights, check_world, sights_of
from simreal_agents.policies.heads import HEADS
from simreal_agents.policies.methods import DOMAINS, METHODS
from simreal_agents.policies.migrations import read_config, renamed
from simreal_agents.policies.normalize import Normalizer
from simreal_agents.policies.rectify import Rectifier, reference
from simreal_agents.policies.tensors import misfits, read_tensors
from simreal_datasets.loading.frames import END_EFFECTOR_POSITION, KEYFRAMES
from simreal_envs.cameras import CAMERA_SPECS, Camera
from simreal_envs.errors import DataError
from simreal_envs.features import PROPRIOCEPTIVE, Feature, WorldSpec
from simreal_envs.loop import Observation
from simreal_envs.shifts import may_move_cameras, parse_shift
from simreal_envs.spec import check_choice
from simreal_envs.stack import members
from simreal_envs.table_world import table_world


def reads(config: TrainConfig, shown: WorldSpec) -> WorldSpec:
    """The arrays that a policy of this configuration reads, chosen from those that the demonstrations have.

    Raises:
        DataError: the demonstrations have clouds of other cameras than the configuration, or with another
            number of points.
    """
    points, cameras = config.observation.points, "+".join(config.observation.spec.cameras)
    for feature in shown.of("pointcloud"):
        if points not in (None, feature.shape[0]):
            raise DataError(
                f"The demonstrations have clouds of {feature.shape[0]} points, and observation.points is "
                f"{points}: leave it out, or record with --points {points}."
            )
        if feature.camera != cameras:
            raise DataError(
                f"The demonstrations have clouds of {feature.camera}, and observation.cameras is {cameras}: "
                f"train with --cameras {feature.camera}, or record with --cameras {cameras}."
            )
    wanted = [f.key for f in config.observation.spec.features(1) if f.modality != "proprioception"]
    own = [f for f in PROPRIOCEPTIVE if f.key in (*config.head.proprioception, END_EFFECTOR_POSITION)]
    features = (*own, *(shown.feature(key) for key in wanted))
    return replace(shown, features=features, history=config.observation.history)


def number_names(config: TrainConfig, spec: WorldSpec) -> tuple[str, ...]:
    """The arrays that reach the head as they are: the chosen proprioception, and the objects' state."""
    return (*config.head.proprioception, *(feature.key for feature in spec.of("state")))


class PolicyNetwork(nn.Module):
    """The network of a policy, with its normalisation: observations in, chunks of actions out."""

    def __init__(self, config: TrainConfig, spec: WorldSpec) -> None:
        super().__init__()
        self.spec = spec
        self.codec = ActionCodec(spec.action_kind, config.head.action_frame)
        numbers = len(_zero_inputs(number_names(config, spec), spec))
        self.encoder = JoinedEncoder(spec, config.encoder)
        self.domain_token = METHODS[config.method].domain_token
        condition = self.encoder.size + spec.history * numbers + len(DOMAINS) * self.domain_token
        shape = config.head.predict, self.codec.size
        self.head = HEADS[config.head.kind](condition, shape, config.head)
        with warnings.catch_warnings():  # a policy of numbers alone has no feature, and torch warns of that
            warnings.filterwarnings("ignore", "Initializing zero-element tensors")
            self.goal = nn.Linear(self.encoder.size, 3 * KEYFRAMES)
        self.inputs = Normalizer(numbers)
        self.actions = Normalizer(self.codec.size)
        self.goals = Normalizer(3 * KEYFRAMES)

    def condition(self, features: Tensor, inputs: Tensor, from_target: Tensor) -> Tensor:
        """Features (B, F), raw inputs (B, P) or (B, h, P), and whether from the target (B,), for the head.

        Returns:
            (B, F + h P); with a domain token (B, F + h P + 2), whose end is 1, 0 for the source, 0, 1 for the
            target.
        """
        parts = [features, self.inputs(inputs).flatten(1)]
        if self.domain_token:
            parts.append(one_hot(from_target.long(), len(DOMAINS)).to(features))
        return torch.cat(parts, dim=1)


def _zero_inputs(names: tuple[str, ...], spec: WorldSpec) -> NDArray[np.float32]:
    """Policy inputs (P,) of a robot with all values zero; only their number matters."""
    zeros = {name: np.zeros((1, *spec.feature(name).shape)) for name in names}
    if ORIENTATION in zeros:
        zeros[ORIENTATION][0, 3] = 1.0
    return policy_inputs(zeros, names)[0]


class Policy(ChunkActor):
    """An actor (see :class:`ChunkActor`) made of a trained network.

    Attributes:
        config: the configuration it was trained with.
        spec: the worlds that it was trained for, and the arrays that it reads.
        update: the training update of its weights.
        looks: for each domain, the looks of its demonstrations, see :func:`look`.
        cameras: for each domain its fixed cameras, by name, if ``encoder.view=calibrated``; else empty.
        domain: which domain's images it is shown, ``source`` or ``target``; ``target`` until :meth:`face`.
    """

    def __init__(
        self,
        network: PolicyNetwork,
        config: TrainConfig,
        update: int,
        looks: dict[str, list[str]],
        cameras: dict[str, dict[str, Camera]],
        device: torch.device,
        acting: Acting = DEFAULT_ACTING,
    ) -> None:
        super().__init__(network.spec, config.head.predict, config.head.execute, acting)
        self.network = network.to(device).eval().requires_grad_(False)
        self.config, self.update, self.device = config, update, device
        self.looks, self.cameras, self.domain = looks, cameras, "target"
        self._names = number_names(config, self.spec)
        self.see(cameras.get("target"))

    def chunks(self, observations: Observation, deterministic: bool = True) -> Actions:
        """Chunks (B, predict, A), float32 in the action space, of observations with a leading batch axis."""
        positions_m = observations[END_EFFECTOR_POSITION]
        if self.spec.history == 1:
            numbers = policy_inputs(observations, self._names)
        else:
            moments = {
                name: observations[name].reshape(-1, observations[name].shape[-1]) for name in self._names
            }
            numbers = policy_inputs(moments, self._names).reshape(*positions_m.shape[:2], -1)
            positions_m = positions_m[:, -1]
        inputs = torch.from_numpy(numbers)
        arrays = self._arrays(observations, self._rectifiers)
        with torch.inference_mode():
            features = self._features(arrays, self.domain, len(inputs))
            from_target = torch.full((len(inputs),), self.domain == "target", device=self.device)
            condition = self.network.condition(features, inputs.to(self.device), from_target)
            noise = self._noise(arrays, inputs, deterministic).to(self.device)
            chunk = self.network.head.sample(condition, noise)
            chunk = self.network.actions.inverse(chunk)
        return self.network.codec.decode(chunk.cpu().numpy(), positions_m)

    def _noise(self, arrays: Mapping[str, Tensor], inputs: Tensor, deterministic: bool) -> Tensor:
        """Normal noise (B, *noise_shape) that the observation alone decides, not batch, order or process."""
        generators: list[torch.Generator | None] = [None] * len(inputs)
        if deterministic:
            seeds = [0] * len(inputs)
            for array in (*arrays.values(), inputs):
                seeds = [crc32(row, seed) for row, seed in zip(array.numpy(), seeds, strict=True)]
            generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        shape = self.network.head.noise_shape
        return torch.stack([torch.randn(shape, generator=generator) for generator in generators])

    def encode(self, observations: Mapping[str, NDArray[Any]], domain: str) -> NDArray[np.float32]:
        """Features (N, F) of arrays (N, ...) or (N, h, ...) that the ``source`` or the ``target`` shows."""
        arrays = self._arrays(observations, self._rectifiers_of(self.cameras.get(domain)))
        with torch.inference_mode():
            batches = zip(*(array.split(256) for array in arrays.values()), strict=True)
            features = [
                self._features(dict(zip(arrays, batch, strict=True)), domain, len(batch[0]))
                for batch in batches
            ]
        return torch.cat(features).cpu().numpy()

    def _arrays(
        self, observations: Mapping[str, NDArray[Any]], rectifiers: Mapping[str, Rectifier]
    ) -> dict[str, Tensor]:
        """The arrays that the encoders need, with images in the view that the network was trained on."""
        arrays = {}
        for key in needed_arrays(self.spec, self.config.encoder.cloud):
            array = np.ascontiguousarray(observations[key])
            if key in rectifiers:
                images = array.reshape(-1, *self.spec.feature(key).shape)
                array = rectifiers[key](images).reshape(array.shape)
            arrays[key] = torch.from_numpy(array)
        return arrays

    def _features(self, arrays: Mapping[str, Tensor], domain: str, count: int) -> Tensor:
        from_target = torch.full((count,), domain == "target", device=self.device)
        there = {key: array.to(self.device) for key, array in arrays.items()}
        return self.network.encoder(prepared(there, self.spec, self.config.encoder.cloud), from_target)

    def _rectifiers_of(self, cameras: Mapping[str, Camera] | None) -> dict[str, Rectifier]:
        """Rectifiers to the view that the network was trained on, by the names of the images."""
        if not cameras or not self.cameras:
            return {}
        return {
            feature.key: Rectifier(cameras[feature.camera], reference(self.cameras)[feature.camera])
            for feature in rectified(self.spec)
            if feature.camera in cameras
        }

    def face(self, env: Any) -> None:
        """Prepare for the images of a world: find out which domain it looks like and where its camera stands.

        All worlds of a vector environment have to look alike.

        Raises:
            DataError: the policy is not for this world, see :meth:`check_world`, or the worlds look
                differently.
            UsageError: the worlds of a vector environment are in other processes.
        """
        self.check_world(env)
        self.meet(sights_of(env), table_world(members(env)[0]).real_time)

    def meet(self, sights: Sequence[Sight], real_time: bool = False) -> None:
        """Prepare for worlds of which only the sights are known; :meth:`face` says what may be wrong."""
        check_sights(self.spec, sights)
        first = sights[0]
        if self.cameras and any(may_move_cameras(drawn) for drawn in parse_shift(first.shift)):
            raise DataError(
                f"This policy knows where the camera stands (encoder.view = 'calibrated'), and shift "
                f"{first.shift!r} may move it in every episode. Evaluate without that shift, or train with "
                "encoder.view=domain."
            )
        for other in sights[1:]:
            if other.look != first.look or (self.cameras and other.cameras != first.cameras):
                raise DataError(
                    "The worlds of this vector environment differ in look or camera "
                    f"({first.look!r}, {other.look!r}): each needs a policy of its own that faces it."
                )
        self.real_time = real_time
        self.domain = self.domain_of(first.look)
        self.see({name: Camera.from_json(values) for name, values in first.cameras.items()})

    def see(self, cameras: Mapping[str, Camera] | None) -> None:
        """Expect images of these cameras; without any, images that need no rectifying."""
        self._rectifiers = self._rectifiers_of(cameras)

    def domain_of(self, look: str) -> str:
        """``source`` if a world looks like a demonstration of the source and like none of the target."""
        as_source = look in self.looks.get("source", ()) and look not in self.looks.get("target", ())
        return "source" if as_source else "target"

    def check_world(self, env: Any) -> None:
        """See :func:`simreal_agents.policies.facing.check_world`."""
        check_world(self.spec, env)


def rectified(spec: WorldSpec) -> list[Feature]:
    """The images that can be rectified by calibrations: those of cameras that stand still."""
    return [
        f for f in spec.of("image") if f.camera in CAMERA_SPECS and CAMERA_SPECS[f.camera].mount == "base"
    ]


def load_policy(
    run: Path | str,
    checkpoint: str | int = "last",
    device: str = "auto",
    acting: Acting = DEFAULT_ACTING,
    overrides: Sequence[str] = (),
) -> Policy:
    """The policy of a run, at its last checkpoint or that of a given update.

    ``acting`` says how its chunks are carried out: ``Acting(ahead=2, join="ensemble")``. ``overrides`` set
    what needs no other weights, such as ``["head.steps=4"]``, see :func:`act_with`.

    Raises:
        DataError: no such run, or a checkpoint that is damaged or of another format version.
        UsageError: the run has no such checkpoint, there is no such device, or the policy cannot act so.
    """
    folder = find_checkpoint(Path(run), checkpoint)
    state = read_state(folder)
    config = checkpoint_config(folder, overrides)
    network = build_network(config, WorldSpec.from_json(state["world"]))
    load_weights(network, renamed(read_tensors(folder / WEIGHTS), state["format_version"]), folder)
    cameras = {
        domain: {name: Camera.from_json(values) for name, values in cameras.items()}
        for domain, cameras in state["cameras"].items()
    }
    return Policy(network, config, state["update"], state["looks"], cameras, pick_device(device), acting)


def checkpoint_config(folder: Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """The configuration of a checkpoint, with what :func:`act_with` may set.

    Raises:
        DataError: the checkpoint is damaged or of another format version.
        UsageError: see :func:`act_with`.
    """
    state = read_state(folder)
    config = read_config(state["config"], state["format_version"], f"Checkpoint {folder}")
    act_with(config, overrides)
    return config


def build_network(config: TrainConfig, spec: WorldSpec) -> PolicyNetwork:
    """A fresh network whose weights depend on the seed alone, leaving torch's own generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return PolicyNetwork(config, spec)


def load_weights(module: nn.Module, tensors: dict[str, Tensor], where: Path) -> None:
    """Fill a network or another module.

    Raises:
        DataError: names or shapes of the tensors are others, which are named.
    """
    if problems := misfits(tensors, module.state_dict()):
        raise DataError(f"The weights in {where} do not fit its configuration: {problems}.")
    module.load_state_dict(tensors)


def pick_device(name: str) -> torch.device:
    """``auto`` takes cuda if there is one.

    Raises:
        UsageError: no such device on this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    cuda = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    check_choice("device", name, ["auto", "cpu", *(["cuda", *cuda] if cuda else [])])
    return torch.device(name)
