"""One update: draw, forward, step; and everything a checkpoint needs to go on from there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from simreal_agents.policies.actions import ActionCodec, policy_inputs
from simreal_agents.policies.alignments import Transport
from simreal_agents.policies.checkpoint import (
    POLICY_KEYS,
    TRAINING,
    TRAINING_KEYS,
    WEIGHTS,
    read_state,
    save_checkpoint,
)
from simreal_agents.policies.config import TrainConfig
from simreal_agents.policies.encoders import needed_arrays, prepared
from simreal_agents.policies.migrations import renamed
from simreal_agents.policies.policy import (
    build_network,
    load_weights,
    number_names,
    reads,
    rectified,
)
from simreal_agents.policies.randomness import Randomness
from simreal_agents.policies.rectify import Rectifier, reference
from simreal_agents.policies.tensors import read_tensors
from simreal_agents.training.augment import augment, random_shift
from simreal_agents.training.batches import Draw, Indices, Sampler
from simreal_agents.training.objective import Batch, Objective
from simreal_agents.training.pairs import pairing_for
from simreal_agents.training.phases import learning_rate
from simreal_agents.training.processes import Processes
from simreal_datasets.loading.decoded import Array
from simreal_datasets.loading.frames import Frames
from simreal_envs.cameras import Camera
from simreal_envs.errors import DataError
from simreal_envs.features import WorldSpec

PATH_MOMENTS = 4
"""Moments of the label ``eef_path``, the present one among them."""


@dataclass(frozen=True)
class Domain:
    """One domain's frames as the network wants them.

    Attributes:
        frames: the demonstrations.
        arrays: what encoders need by name, each (N, ...), as recorded or rectified.
        inputs: (N, P) policy inputs.
        goals_m: (N, 6) where the end effector is sent at the next :data:`KEYFRAMES`.
        labels: (N, d) what the alignment matches besides features, see ``alignment.label``; d may be 0.
        chunks: (N, horizon, A) encoded actions from each frame on.
    """

    frames: Frames
    arrays: dict[str, Array]
    inputs: NDArray[np.float32]
    goals_m: NDArray[np.float32]
    labels: NDArray[np.float32]
    chunks: NDArray[np.float32]

    @classmethod
    def of(
        cls, frames: Frames, config: TrainConfig, spec: WorldSpec, rectifiers: Mapping[str, Rectifier]
    ) -> Domain:
        """Encode all frames once."""
        codec = ActionCodec(spec.action_kind, config.head.action_frame)
        positions, every = frames.end_effector_positions_m, np.arange(len(frames))
        chunks = codec.encode(frames.actions[frames.chunk_indices(every, config.head.predict)], positions)
        goals = frames.commanded_positions_m[frames.keyframes()].reshape(len(frames), -1)
        chosen = config.alignment
        if not isinstance(chosen, Transport):
            labels = positions[:, :0]
        elif chosen.label == "action":
            labels = chunks[:, 0]
        elif chosen.label == "eef_pos":
            labels = positions
        else:
            step = chosen.path_steps
            moments = frames.chunk_indices(every, PATH_MOMENTS * step)[:, ::step]
            labels = positions[moments].reshape(len(frames), -1)
        names = number_names(config, spec)
        inputs = policy_inputs({name: np.asarray(frames.arrays[name]) for name in names}, names)
        arrays = {key: frames.arrays[key] for key in needed_arrays(spec, config.encoder.cloud)}
        arrays |= {key: rectifier(arrays[key][:]) for key, rectifier in rectifiers.items()}
        return cls(frames, arrays, inputs, goals, labels, chunks)


class Learner:
    """The state of a run, and what one update does to it.

    Args:
        source, target: the demonstrations that are trained on; None for a domain that the method has not.
        held_out: demonstrations by domain that no update sees.
        fresh: whether training begins; otherwise :meth:`restore` has to follow.
        processes: those that train together; None finds out.
    """

    def __init__(
        self,
        config: TrainConfig,
        source: Frames | None,
        target: Frames | None,
        held_out: Mapping[str, Frames] = MappingProxyType({}),
        fresh: bool = True,
        processes: Processes | None = None,
    ) -> None:
        self.config, self.update = config, 0
        self.processes = processes or Processes(config)
        self.device = self.processes.device
        if self.device.type == "cpu":
            torch.set_num_threads(config.threads)
        given = {"source": source, "target": target}
        present = {name: frames for name, frames in given.items() if frames is not None}
        self.spec = spec = reads(config, next(iter(present.values())).spec)
        self.looks = {name: list(frames.looks) for name, frames in present.items()}
        self.cameras: dict[str, dict[str, Camera]] = {}
        if config.encoder.view == "calibrated":
            self.cameras = {
                name: {f.camera: only_camera(frames, f.camera, name) for f in rectified(spec)}
                for name, frames in present.items()
            }
        self.domains = {name: self._domain(name, frames) for name, frames in present.items()}
        self.held_out = {name: self._domain(name, frames) for name, frames in held_out.items()}
        self.network = build_network(config, spec).to(self.device)
        if fresh:
            self.network.encoder.begin()
        for part, normalizer, smallest_std in (
            ("inputs", self.network.inputs, 1e-3),
            ("chunks", self.network.actions, 1e-2),
            ("goals_m", self.network.goals, 1e-2),
        ):
            data = np.concatenate([getattr(domain, part) for domain in self.domains.values()])
            normalizer.fit(torch.from_numpy(data), smallest_std)
        chunks = np.concatenate([domain.chunks for domain in self.domains.values()])
        self.network.head.fit(self.network.actions(torch.from_numpy(chunks).to(self.device)))
        self.average = build_network(config, spec).to(self.device).requires_grad_(False)
        self.average.load_state_dict(self.network.state_dict())
        self.objective = Objective(self.network, config, self.processes).to(self.device)
        self.parameters = list(self.objective.parameters())  # the network's come first
        optimizer = torch.optim.AdamW(
            self.parameters, config.optim.learning_rate, weight_decay=config.optim.weight_decay, fused=True
        )
        self.losses, self.optimizer = self.processes.wrap(self.objective, optimizer)
        seeds = np.random.SeedSequence(config.seed).generate_state(3)
        self.rng = np.random.default_rng(seeds[0])
        self.generators = {
            "augment": torch.Generator(self.device).manual_seed(int(seeds[1])),
            "head": torch.Generator(self.device).manual_seed(int(seeds[2])),
        }
        pairing = pairing_for(config, source, target)
        self.sampler = Sampler(config, source, target, pairing, self.rng)

    def _domain(self, name: str, frames: Frames) -> Domain:
        """The frames of the domain of this name, in the view that the network is trained on."""
        rectifiers = {}
        if self.cameras:
            for f in rectified(self.spec):
                camera = only_camera(frames, f.camera, name)
                rectifiers[f.key] = Rectifier(camera, reference(self.cameras)[f.camera])
        return Domain.of(frames, self.config, self.spec, rectifiers)

    def step(self) -> dict[str, Tensor | float]:
        """One update of all weights; returns what there is to log."""
        config, processes, watch = self.config, self.processes, self.objective.stopwatch
        watch.start()
        batch = self.batch(self.sampler.draw(self.update))
        watch.lap("load")
        logged = self.losses(batch)
        loss = logged.pop("loss")
        for group in self.optimizer.param_groups:
            group["lr"] = logged["learning_rate"] = learning_rate(config, self.update)
        self.optimizer.zero_grad(set_to_none=True)
        watch.lap("rest")
        processes.backward(loss)
        watch.lap("backward")
        norm = processes.clip(self.parameters, config.optim.gradient_clip)
        self.optimizer.step()
        self.update += 1
        self._average()
        watch.lap("rest")
        return {**logged, "loss": loss.detach(), "gradient_norm": norm}

    def batch(self, draw: Draw) -> Batch:
        """This process's share of the drawn frames as the network takes them, with augmented images."""
        config, history = self.config, self.spec.history
        share, samples = draw.share(self.processes.index, self.processes.count)
        clone, every = share.parts[:2], share.parts
        domains = self.domains.items()
        keys = needed_arrays(self.spec, config.encoder.cloud)
        arrays = {key: self._rows({n: d.arrays[key] for n, d in domains}, every, history) for key in keys}
        ready = prepared(arrays, self.spec, config.encoder.cloud)
        drawn = [len(part) for part in draw.parts]
        random = Randomness(self.generators["augment"], sum(drawn), samples)
        for key in ready:
            margin_px, modality = self.network.encoder.margins_px[key], self.spec.feature(key).modality
            if modality == "image":
                ready[key] = augment(ready[key], config.augment, random, history, margin_px)
            elif modality == "depth":
                ready[key] = random_shift(ready[key], config.augment.shift_px, random, history, margin_px)
        from_target = torch.from_numpy(np.repeat([False, True] * 2, [len(part) for part in every]))
        return Batch(
            ready,
            from_target.to(self.device),
            self._rows({n: d.inputs for n, d in domains}, clone, history),
            self._gather("chunks", clone),
            self._gather("goals_m", clone),
            *self.labels(draw),
            self.update,
            Randomness(self.generators["head"], sum(drawn[:2]), samples[samples < sum(drawn[:2])]),
        )

    def features(self, name: str, domain: Domain, frames: Indices) -> Tensor:
        """Features (B, F) by the averaged weights of some frames as recorded; ``name`` is the domain's."""
        history = self.spec.history
        moments = domain.frames.moments(frames, history) if history > 1 else frames
        arrays = {
            key: torch.from_numpy(array[moments]).to(self.device) for key, array in domain.arrays.items()
        }
        from_target = torch.full((len(frames),), name == "target", device=self.device)
        return self.average.encoder(prepared(arrays, self.spec, self.config.encoder.cloud), from_target)

    def labels(self, draw: Draw) -> tuple[Tensor, Tensor]:
        """What the alignment matches besides features, of source (n, d) and target (m, d)."""
        none = np.empty(0, np.int64)
        if not len(draw.align_source):
            return torch.empty(0, 0), torch.empty(0, 0)
        source, target = draw.align_source, draw.align_target
        return self._gather("labels", (source, none)), self._gather("labels", (none, target))

    def save(self, run: Path) -> None:
        """Write a checkpoint."""
        training = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        if self.objective.alignment is not None:
            learnt = self.objective.alignment.state_dict()
            training |= {f"alignment.{name}": tensor for name, tensor in learnt.items()}
        for i, values in self.optimizer.state_dict()["state"].items():
            training |= {f"optimizer.{i}.{name}": tensor for name, tensor in values.items()}
        training |= {f"generator.{name}": g.get_state() for name, g in self.generators.items()}
        state = {
            "config": self.config.to_dict(),
            "world": self.spec.to_json(),
            "looks": self.looks,
            "cameras": {
                domain: {name: camera.to_json() for name, camera in cameras.items()}
                for domain, cameras in self.cameras.items()
            },
            "sampler": self.rng.bit_generator.state,
            "device": self.device.type,
            "scaler": self.processes.state,
        }
        save_checkpoint(run, self.update, self.average.state_dict(), training, state)

    def restore(self, checkpoint: Path) -> None:
        """Go back to what :meth:`save` wrote.

        Raises:
            DataError: it is damaged, or of another kind of device.
        """
        state = read_state(checkpoint, (*POLICY_KEYS, *TRAINING_KEYS))
        version, before = state["format_version"], state["device"]
        training = renamed(read_tensors(checkpoint / TRAINING), version, "network.")
        if before != self.device.type:  # whose generators cannot be taken over
            raise DataError(
                f"{checkpoint} was trained on {before}, and would go on on {self.device.type}: resume it "
                f"on a machine with {before}."
            )
        parts: dict[str, dict[str, Tensor]] = {
            "network": {},
            "alignment": {},
            "optimizer": {},
            "generator": {},
        }
        for name, tensor in training.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = tensor
        load_weights(self.network, parts["network"], checkpoint)
        if self.objective.alignment is not None:
            load_weights(self.objective.alignment, parts["alignment"], checkpoint)
        load_weights(self.average, renamed(read_tensors(checkpoint / WEIGHTS), version), checkpoint)
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in parts["optimizer"].items():
            i, _, quantity = name.partition(".")
            moments.setdefault(int(i), {})[quantity] = tensor
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        for name, tensor in parts["generator"].items():
            self.generators[name].set_state(tensor)
        self.rng.bit_generator.state = state["sampler"]
        self.processes.state = state.get("scaler")  # before format 7 there was none
        self.update = int(state["update"])

    def _gather(self, quantity: str, frames: tuple[Indices, ...]) -> Tensor:
        """The rows of an array of :class:`Domain`, see :meth:`_rows`."""
        return self._rows({name: getattr(domain, quantity) for name, domain in self.domains.items()}, frames)

    def _rows(self, arrays: Mapping[str, Array], frames: tuple[Indices, ...], history: int = 1) -> Tensor:
        """Rows of source, target, source, ... frames, one below the other, on the device.

        Args:
            arrays: one for each domain.
            history: the moments of each row.
        """
        rows = []
        for name, indices in zip(("source", "target") * 2, frames, strict=False):
            if len(indices):
                moments = self.domains[name].frames.moments(indices, history) if history > 1 else indices
                rows.append(arrays[name][moments])
        return torch.from_numpy(np.concatenate(rows)).to(self.device)

    @torch.no_grad()
    def _average(self) -> None:
        """Move the averaged weights towards those of the network, and take over its buffers.

        At the beginning of a run an update keeps little of the average.
        """
        options = self.config.optim
        if options.ema_power:  # of the updates before this one, as published
            rising = 1 - self.update**-options.ema_power
        else:
            rising = self.update / (self.update + 10)
        kept = min(options.ema_decay, rising)
        averaged: list[Tensor] = [*self.average.parameters()]
        trained: list[Tensor] = [*self.network.parameters()]
        with torch.no_grad():  # or the averages would keep a graph of all updates
            torch._foreach_lerp_(averaged, trained, 1 - kept)
        for average, buffer in zip(self.average.buffers(), self.network.buffers(), strict=True):
            average.copy_(buffer)


def only_camera(frames: Frames, name: str, domain: str) -> Camera:
    """Where the camera of this name stands in all frames.

    Raises:
        DataError: there is none on record, or more than one.
    """
    cameras = frames.cameras.get(name, ())
    if len(cameras) != 1:
        raise DataError(
            f"encoder.view = 'calibrated' needs one calibrated camera {name} in the {domain} demonstrations, "
            f"which have {len(cameras)}. Use encoder.view=domain, or demonstrations of one camera."
        )
    return Camera(cameras[0].size, cameras[0].intrinsics, cameras[0].pose_in_mount)
