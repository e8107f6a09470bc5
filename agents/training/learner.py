"""One update: sample, encode, clone, align, step; and everything a checkpoint needs to go on from there."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import mse_loss

from simreal_agents.policies.actions import ActionCodec, policy_inputs
from simreal_agents.policies.checkpoint import (
    POLICY_KEYS,
    TRAINING,
    TRAINING_KEYS,
    WEIGHTS,
    read_state,
    read_tensors,
    save_checkpoint,
)
from simreal_agents.policies.config import TrainConfig
from simreal_agents.policies.encoders import to_network
from simreal_agents.policies.policy import build_network, load_weights, pick_device
from simreal_agents.policies.rectify import Rectifier, reference
from simreal_agents.training.alignment import Alignment, align
from simreal_agents.training.augment import augment
from simreal_agents.training.batches import Draw, Indices, Sampler
from simreal_datasets.loading.frames import Frames
from simreal_datasets.loading.pairing import pair
from simreal_envs.cameras import Camera
from simreal_envs.errors import DataError

PATH_MOMENTS = 4
"""Moments of the label ``eef_path``, the present one among them."""


@dataclass(frozen=True)
class Domain:
    """One domain's frames as the network wants them.

    Attributes:
        images: (N, H, W, 3) uint8.
        inputs: (N, P) policy inputs.
        goals_m: (N, 6) where the end effector is sent at the next :data:`KEYFRAMES`.
        labels: (N, d) what the alignment matches besides features, see ``alignment.label``.
        chunks: (N, horizon, A) encoded actions from each frame on.
    """

    images: NDArray[np.uint8]
    inputs: NDArray[np.float32]
    goals_m: NDArray[np.float32]
    labels: NDArray[np.float32]
    chunks: NDArray[np.float32]

    @classmethod
    def of(cls, frames: Frames, config: TrainConfig, rectify: Rectifier | None = None) -> Domain:
        """Encode all frames once."""
        codec = ActionCodec(frames.world["action_kind"], config.head.action_frame)
        positions, every = frames.end_effector_positions_m, np.arange(len(frames))
        chunks = codec.encode(frames.actions[frames.chunk_indices(every, config.head.predict)], positions)
        goals = frames.commanded_positions_m[frames.keyframes()].reshape(len(frames), -1)
        if config.alignment.label == "action":
            labels = chunks[:, 0]
        elif config.alignment.label == "eef_pos":
            labels = positions
        else:
            step = config.alignment.path_steps
            moments = frames.chunk_indices(every, PATH_MOMENTS * step)[:, ::step]
            labels = positions[moments].reshape(len(frames), -1)
        inputs = policy_inputs(frames.proprioception, config.head.proprioception)
        images = frames.images if rectify is None else rectify(frames.images)
        return cls(images, inputs, goals, labels, chunks)


class Learner:
    """The state of a run, and what one update does to it."""

    def __init__(self, config: TrainConfig, source: Frames | None, target: Frames | None) -> None:
        self.config, self.update = config, 0
        self.device = pick_device(config.device)
        if self.device.type == "cpu":
            torch.set_num_threads(config.threads)
        given = {"source": source, "target": target}
        present = {name: frames for name, frames in given.items() if frames is not None}
        self.world = next(iter(present.values())).world
        self.looks = {name: list(frames.looks) for name, frames in present.items()}
        self.cameras: dict[str, Camera] = {}
        rectifiers: dict[str, Rectifier] = {}
        if config.encoder.view == "calibrated":
            self.cameras = {name: only_camera(frames, name) for name, frames in present.items()}
            rectifiers = {
                name: Rectifier(seen, reference(self.cameras)) for name, seen in self.cameras.items()
            }
        self.domains = {
            name: Domain.of(frames, config, rectifiers.get(name)) for name, frames in present.items()
        }
        self.network = build_network(config, self.world).to(self.device)
        for part, normalizer, smallest_std in (
            ("inputs", self.network.inputs, 1e-3),
            ("chunks", self.network.actions, 1e-2),
            ("goals_m", self.network.goals, 1e-2),
        ):
            data = np.concatenate([getattr(domain, part) for domain in self.domains.values()])
            normalizer.fit(torch.from_numpy(data), smallest_std)
        self.average = build_network(config, self.world).to(self.device).requires_grad_(False)
        self.average.load_state_dict(self.network.state_dict())
        self.parameters = list(self.network.parameters())
        self.optimizer = torch.optim.AdamW(
            self.parameters, config.optim.learning_rate, weight_decay=config.optim.weight_decay, fused=True
        )
        seeds = np.random.SeedSequence(config.seed).generate_state(3)
        self.rng = np.random.default_rng(seeds[0])
        self.generators = {
            "augment": torch.Generator(self.device).manual_seed(int(seeds[1])),
            "head": torch.Generator(self.device).manual_seed(int(seeds[2])),
        }
        pairing = None
        needs_pairs = config.alignment_kind != "none" or config.batch.source_paired > 0
        if source and target and needs_pairs and config.pairing.kind == "dtw":
            commanded = config.pairing.path == "commanded"
            cache = Path(config.data.target) / ".pairing"
            pairing = pair(source.paths_m(commanded), target.paths_m(commanded), cache)
        self.sampler = Sampler(config, source, target, pairing, self.rng)
        self.bf16 = config.amp == "bf16" or (config.amp == "auto" and computes_in_bf16(self.device))

    def step(self) -> dict[str, Tensor | float]:
        """One update of all weights; returns what there is to log."""
        config, network, draw = self.config, self.network, self.sampler.draw()
        source, target = draw.clone_source, draw.clone_target
        drawn = (source, target, draw.align_source, draw.align_target)
        images = augment(
            to_network(self._gather("images", drawn)), config.augment, self.generators["augment"]
        )
        from_target = torch.from_numpy(np.repeat([False, True] * 2, [len(part) for part in drawn]))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            features = network.encoder(images, from_target.to(self.device))
        cloned, z, z_target = features.split(
            [config.batch.size, len(draw.align_source), len(draw.align_target)]
        )
        inputs = self._gather("inputs", (source, target))
        chunks = network.actions(self._gather("chunks", (source, target)))
        clone = network.head.loss(network.condition(cloned, inputs), chunks, self.generators["head"])
        loss = clone
        logged: dict[str, Tensor | float] = {"clone": clone.detach()}
        if config.encoder.goal_weight > 0:
            goals = network.goals(self._gather("goals_m", (source, target)))
            goal = mse_loss(network.goal(cloned), goals)
            loss = loss + config.encoder.goal_weight * goal
            logged["goal"] = goal.detach()
        if len(draw.align_source):
            alignment = self.align(draw, z, z_target)
            weight = config.alignment.weight * min(
                1.0, (self.update + 1) / (config.alignment.warmup_updates + 1)
            )
            loss = loss + weight * alignment.loss
            logged |= alignment.summary()
        for group in self.optimizer.param_groups:
            group["lr"] = logged["learning_rate"] = self._learning_rate()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, config.optim.gradient_clip)
        self.optimizer.step()
        self.update += 1
        decay = min(config.optim.ema_decay, self.update / (self.update + 10))
        torch._foreach_lerp_([*self.average.parameters()], [*self.parameters], 1 - decay)
        return {**logged, "loss": loss.detach(), "gradient_norm": norm}

    def save(self, run: Path) -> None:
        """Write a checkpoint."""
        training = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        for i, values in self.optimizer.state_dict()["state"].items():
            training |= {f"optimizer.{i}.{name}": tensor for name, tensor in values.items()}
        training |= {f"generator.{name}": g.get_state() for name, g in self.generators.items()}
        state = {
            "config": self.config.to_dict(),
            "world": self.world,
            "looks": self.looks,
            "cameras": {name: camera.to_json() for name, camera in self.cameras.items()},
            "sampler": self.rng.bit_generator.state,
            "device": self.device.type,
        }
        save_checkpoint(run, self.update, self.average.state_dict(), training, state)

    def restore(self, checkpoint: Path) -> None:
        """Go back to what :meth:`save` wrote.

        Raises:
            DataError: it is damaged, or of another kind of device.
        """
        state = read_state(checkpoint, (*POLICY_KEYS, *TRAINING_KEYS))
        training, before = read_tensors(checkpoint / TRAINING), state["device"]
        if before != self.device.type:  # whose generators cannot be taken over
            raise DataError(
                f"{checkpoint} was trained on {before}, and would go on on {self.device.type}: resume it "
                f"on a machine with {before}."
            )
        parts: dict[str, dict[str, Tensor]] = {"network": {}, "optimizer": {}, "generator": {}}
        for name, tensor in training.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = tensor
        load_weights(self.network, parts["network"], checkpoint)
        load_weights(self.average, read_tensors(checkpoint / WEIGHTS), checkpoint)
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in parts["optimizer"].items():
            i, _, quantity = name.partition(".")
            moments.setdefault(int(i), {})[quantity] = tensor
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        for name, tensor in parts["generator"].items():
            self.generators[name].set_state(tensor)
        self.rng.bit_generator.state = state["sampler"]
        self.update = int(state["update"])

    def align(self, draw: Draw, z: Tensor, z_target: Tensor) -> Alignment:
        """Alignment of the drawn pairs of frames, whose features are given."""
        none = np.empty(0, np.int64)
        x, x_target = self._labels(draw.align_source, none), self._labels(none, draw.align_target)
        return align(self.config.alignment_kind, self.config.alignment, z, z_target, x, x_target)

    def _labels(self, source: Indices, target: Indices) -> Tensor:
        """What the alignment matches besides features, (n, d)."""
        labels = self._gather("labels", (source, target))
        return self.network.actions(labels) if self.config.alignment.label == "action" else labels

    def _gather(self, quantity: str, frames: tuple[Indices, ...]) -> Tensor:
        """Rows of source, target, source, ... frames, one below the other, on the device."""
        rows = [
            getattr(self.domains[name], quantity)[indices]
            for name, indices in zip(("source", "target") * 2, frames, strict=False)
            if len(indices)
        ]
        return torch.from_numpy(np.concatenate(rows)).to(self.device)

    def _learning_rate(self) -> float:
        """Linear warm-up, then a cosine to zero."""
        options = self.config.optim
        if self.update < options.warmup_updates:
            return options.learning_rate * (self.update + 1) / (options.warmup_updates + 1)
        progress = (self.update - options.warmup_updates) / max(1, options.updates - options.warmup_updates)
        return options.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


def only_camera(frames: Frames, domain: str) -> Camera:
    """The camera of all frames.

    Raises:
        DataError: there is none on record, or more than one.
    """
    if len(frames.cameras) != 1:
        raise DataError(
            f"encoder.view = 'calibrated' needs one calibrated camera in the {domain} demonstrations, which "
            f"have {len(frames.cameras)}. Use encoder.view=domain, or demonstrations of one camera."
        )
    return frames.cameras[0]


def computes_in_bf16(device: torch.device) -> bool:
    """Whether the processor multiplies in bf16; elsewhere it is emulated, and slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.exists() and any(flag in cpuinfo.read_text() for flag in ("avx512_bf16", "amx_bf16"))
