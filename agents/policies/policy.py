"""The trained policy: encoder and head as one network, and the actor that runs it in a world."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from simreal_agents.policies.actions import ActionCodec, policy_inputs
from simreal_agents.policies.checkpoint import WEIGHTS, find_checkpoint, read_state, read_tensors
from simreal_agents.policies.config import TrainConfig
from simreal_agents.policies.encoders import CNN, check_stride, to_network
from simreal_agents.policies.heads import HEADS
from simreal_agents.policies.migrations import read_config
from simreal_agents.policies.normalize import Normalizer
from simreal_agents.policies.rectify import Rectifier, reference
from simreal_datasets.loading.frames import END_EFFECTOR_POSITION, IMAGE_KEY, KEYFRAMES, look
from simreal_envs.cameras import Camera
from simreal_envs.errors import DataError
from simreal_envs.features import ObservationSpec, WorldSpec
from simreal_envs.loop import Observation
from simreal_envs.spec import (
    PROPRIOCEPTION,
    action_space,
    check_choice,
    check_observation,
)
from simreal_envs.stack import changes, members
from simreal_envs.vector import states_of


class PolicyNetwork(nn.Module):
    """Everything with weights or statistics: images and proprioception in, chunks of actions out."""

    def __init__(self, config: TrainConfig, world: dict[str, Any]) -> None:
        super().__init__()
        check_stride(config.encoder.stem_stride, world["image_size"])
        self.codec = ActionCodec(world["action_kind"], config.head.action_frame)
        numbers = len(zero_inputs(config.head.proprioception))
        self.encoder = CNN(config.encoder)
        self.head = HEADS[config.head.kind](
            config.encoder.features + numbers, (config.head.predict, self.codec.size), config.head
        )
        self.goal = nn.Linear(config.encoder.features, 3 * KEYFRAMES)
        self.inputs = Normalizer(numbers)
        self.actions = Normalizer(self.codec.size)
        self.goals = Normalizer(3 * KEYFRAMES)

    def condition(self, features: Tensor, inputs: Tensor) -> Tensor:
        """Features (B, F) and raw policy inputs (B, P) -> what the head is given (B, F + P)."""
        return torch.cat([features, self.inputs(inputs)], dim=1)


def zero_inputs(names: tuple[str, ...]) -> NDArray[np.float32]:
    """Policy inputs (P,) of a robot at zero, for their number."""
    zeros = {name: np.zeros((1, size)) for name, size in PROPRIOCEPTION.items()}
    zeros["robot0_eef_quat"][0, 3] = 1.0
    return policy_inputs(zeros, names)[0]


class Policy:
    """An actor (see :class:`simreal_envs.loop.Actor`) made of a trained network.

    It holds no state of an episode: the actions still to be executed travel in ``state``, so one policy can
    serve any number of worlds.

    Attributes:
        config: the configuration it was trained with.
        world: ``task``, ``action_kind``, ``image_size`` it was trained for.
        update: the training update of its weights.
        looks: for each domain, the looks of its demonstrations, see :func:`look`.
        cameras: for each domain its camera, if calibrations bring their images into one view; else empty.
        domain: whose images it is shown; the target's until :meth:`face`.
    """

    def __init__(
        self,
        network: PolicyNetwork,
        config: TrainConfig,
        world: dict[str, Any],
        update: int,
        looks: dict[str, list[str]],
        cameras: dict[str, Camera],
        device: torch.device,
    ) -> None:
        self.network = network.to(device).eval().requires_grad_(False)
        self.config, self.world, self.update, self.device = config, world, update, device
        self.looks, self.cameras, self.domain = looks, cameras, "target"
        shown = ObservationSpec(("image",), tuple(world["image_size"])).features(0)
        self._reads = WorldSpec(world["task"], world["action_kind"], shown).space
        self.see(cameras.get("target"))

    def predict(
        self,
        observation: Observation,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[np.float32], Any]:
        """Next action (A,) and the queue (k, A) of those to follow; a new chunk when the queue is empty.

        Of a vector environment's observations, with a leading batch axis, come actions (n, A) and a list of
        n queues. ``episode_start`` (n,) empties the queues of single ones. One pass through the network fills
        all that are empty; it agrees within 1e-5 with that of each observation by itself.

        ``deterministic``: the same observation gives the same action. A flow head is sampled in either case:
        from noise that the observation decides, or else from torch's own generator.

        Raises:
            UsageError: an array is not there, of another shape or dtype than in training, or not finite;
                ``state`` or ``episode_start`` are of another number of environments.
        """
        count = check_observation(observation, self._reads)
        queues = states_of(state, episode_start, count)
        if count is None:
            observation = {name: observation[name][None] for name in self._reads}
        empty = [i for i, queue in enumerate(queues) if queue is None or len(queue) == 0]
        if empty:
            chunks = self._chunks({name: observation[name][empty] for name in self._reads}, deterministic)
            for i, chunk in zip(empty, chunks, strict=True):
                queues[i] = chunk
        if count is None:
            return queues[0][0], queues[0][1:]
        return np.stack([queue[0] for queue in queues]), [queue[1:] for queue in queues]

    def predict_batch(
        self, observations: Sequence[Observation], deterministic: bool = True
    ) -> NDArray[np.float32]:
        """Chunks (B, execute, A) for the observations of B worlds, float32 in the action space."""
        for observation in observations:
            check_observation(observation, self._reads)
        together = {name: np.stack([o[name] for o in observations]) for name in self._reads}
        return self._chunks(together, deterministic)

    def _chunks(self, observations: Observation, deterministic: bool) -> NDArray[np.float32]:
        """Chunks (B, execute, A) of observations with a leading batch axis."""
        inputs = torch.from_numpy(policy_inputs(observations, self.config.head.proprioception))
        images = torch.from_numpy(self._rectify(observations[IMAGE_KEY]))
        with torch.inference_mode():
            features = self._features(images, self.domain)
            condition = self.network.condition(features, inputs.to(self.device))
            noise = self._noise(images, inputs, deterministic).to(self.device)
            chunk = self.network.head.sample(condition, noise)
            chunk = self.network.actions.inverse(chunk)[:, : self.config.head.execute]
        return self.network.codec.decode(chunk.cpu().numpy(), observations[END_EFFECTOR_POSITION])

    def _noise(self, images: Tensor, inputs: Tensor, deterministic: bool) -> Tensor:
        """Standard normal noise (B, H, A); what is seen decides it, in every batch, order and process."""
        generators: list[torch.Generator | None] = [None] * len(images)
        if deterministic:
            seen = zip(images.numpy(), inputs.numpy(), strict=True)
            generators = [torch.Generator().manual_seed(crc32(row, crc32(image))) for image, row in seen]
        shape = self.network.head.shape
        return torch.stack([torch.randn(shape, generator=generator) for generator in generators])

    def encode(self, images: NDArray[np.uint8], domain: str) -> NDArray[np.float32]:
        """Features (N, F) of images (N, H, W, 3) of the ``source`` or the ``target``."""
        rectified = self._rectifier(self.cameras.get(domain))(np.ascontiguousarray(images))
        with torch.inference_mode():
            batches = torch.from_numpy(rectified).split(256)
            features = [self._features(batch, domain) for batch in batches]
        return torch.cat(features).cpu().numpy()

    def _features(self, images: Tensor, domain: str) -> Tensor:
        from_target = torch.full((len(images),), domain == "target", device=self.device)
        return self.network.encoder(to_network(images.to(self.device)), from_target)

    def _rectifier(self, camera: Camera | None) -> Callable[[NDArray[np.uint8]], NDArray[np.uint8]]:
        """What brings a camera's images into the view that the network knows."""
        if camera is None or not self.cameras:
            return lambda images: images
        return Rectifier(camera, reference(self.cameras))

    def face(self, env: Any) -> None:
        """Prepare for the images of a world: whose they look like, and where its camera stands.

        Of a vector environment all worlds have to look alike.

        Raises:
            DataError: the policy is not for this world, see :meth:`check_world`, or the worlds look
                differently.
            UsageError: the worlds of a vector environment are in other processes.
        """
        self.check_world(env)
        first, *others = members(env)
        there, camera = look(_describe(first)), _camera(first)
        for other in others:
            if look(_describe(other)) != there or (self.cameras and _camera(other) != camera):
                raise DataError(
                    "The worlds of this vector environment differ in look or camera "
                    f"({there!r}, {look(_describe(other))!r}): each needs a policy of its own that faces it."
                )
        self.domain = self.domain_of(first)
        self.see(first.unwrapped.camera_now() if self.cameras else None)  # type: ignore[attr-defined]

    def see(self, camera: Camera | None) -> None:
        """Expect images of this camera; without one, images that need no rectifying."""
        self._rectify = self._rectifier(camera)

    def domain_of(self, env: gym.Env[Any, Any]) -> str:
        """``source`` for a world that looks as the source's demonstrations and none of the target's."""
        there = look(_describe(env))
        as_source = there in self.looks.get("source", ()) and there not in self.looks.get("target", ())
        return "source" if as_source else "target"

    def check_world(self, env: Any) -> None:
        """Refuse a world that means something else than the one the policy was trained for.

        Raises:
            DataError: lists what differs: task, action kind, observations, image size, and what wrappers
                change.
            UsageError: the worlds of a vector environment are in other processes.
        """
        problems = changes(env)
        for member in members(env):
            problems += self._differences(member)
        if problems:
            raise DataError(
                f"This policy does not fit the environment: {'; '.join(dict.fromkeys(problems))}."
            )

    def _differences(self, env: gym.Env[Any, Any]) -> list[str]:
        """What is otherwise in a world, whatever its wrappers change."""
        space = env.unwrapped.observation_space
        there = dict(space.spaces) if isinstance(space, gym.spaces.Dict) else {}
        kind = env.get_wrapper_attr("action_kind")
        described = {"task": env.get_wrapper_attr("task").name, "action_kind": kind}
        problems = []
        for name, box in self._reads.items():
            shape = there[name].shape if name in there else None
            if shape is None:
                problems.append(f"the environment gives no {name}")
            elif name == IMAGE_KEY and shape != box.shape:
                described["image_size"] = list(shape[:2])
            elif there[name] != box:
                problems.append(f"{name} is {there[name]}, the policy was trained with {box}")
        problems += [
            f"{key} is {value!r}, the policy was trained with {self.world[key]!r}"
            for key, value in described.items()
            if value != self.world[key]
        ]
        own = action_space(self.world["action_kind"]).shape
        if env.action_space.shape != own:
            problems.append(f"actions have shape {env.action_space.shape}, the policy's {own}")
        return problems


def _describe(env: gym.Env[Any, Any]) -> dict[str, Any]:
    description: dict[str, Any] = env.unwrapped.describe()  # type: ignore[attr-defined]
    return description


def _camera(env: gym.Env[Any, Any]) -> dict[str, Any]:
    camera: dict[str, Any] = env.unwrapped.camera_now().to_json()  # type: ignore[attr-defined]
    return camera


def load_policy(run: Path | str, checkpoint: str | int = "last", device: str = "auto") -> Policy:
    """The policy of a run, at its last checkpoint or that of a given update.

    Raises:
        DataError: no such run, or a checkpoint that is damaged or of another format version.
        UsageError: the run has no such checkpoint, or there is no such device.
    """
    folder = find_checkpoint(Path(run), checkpoint)
    state = read_state(folder)
    config = read_config(state["config"], state["format_version"], f"Checkpoint {folder}")
    network = build_network(config, state["world"])
    load_weights(network, read_tensors(folder / WEIGHTS), folder)
    cameras = {name: Camera.from_json(values) for name, values in state["cameras"].items()}
    world, looks, update = state["world"], state["looks"], state["update"]
    return Policy(network, config, world, update, looks, cameras, pick_device(device))


def build_network(config: TrainConfig, world: dict[str, Any]) -> PolicyNetwork:
    """A fresh network whose weights depend on the seed alone, leaving torch's own generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return PolicyNetwork(config, world)


def load_weights(network: PolicyNetwork, tensors: dict[str, Tensor], where: Path) -> None:
    """Fill the network; a DataError if names or shapes do not fit."""
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise DataError(f"The weights in {where} do not fit its configuration: {error}") from error


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
