"""The processes that share a training, by Hugging Face's accelerate. A process alone is the case of one.

Every process holds the whole network and computes its share of each batch; gradients are averaged. All of
them read the same demonstrations and draw the same random numbers, and the first one alone writes.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import AutocastKwargs, DistributedDataParallelKwargs, InitProcessGroupKwargs
from torch import Tensor, distributed, nn

from simreal_agents.policies.config import TrainConfig
from simreal_agents.policies.policy import pick_device
from simreal_envs.errors import SimrealError, UsageError

PATIENCE = timedelta(days=1)
"""How long processes wait for each other: the first one may play many episodes meanwhile. A process that
died is noticed at once."""


class LostProcess(SimrealError):
    """Another process of the training died, so this one cannot go on."""


class Processes:
    """This process among those that train together, and what they do in common.

    Attributes:
        count: how many there are.
        index: of this one.
        first: whether this is the one that writes and reports.
        device: of this one.

    Raises:
        UsageError: a batch that cannot be shared equally, a device that is not there, or a precision that it
            does not have.
    """

    def __init__(self, config: TrainConfig) -> None:
        count = launched()
        check_shares(config, count)
        device = pick_device(config.device)
        if config.amp == "fp16" and device.type != "cuda":
            raise UsageError(f"amp = 'fp16' needs device=cuda, and this is {device.type}; use bf16 or none.")
        if count > 1 and device.index is not None:
            raise UsageError(f"device = '{device}' is one device; {count} processes need device=cuda or cpu.")
        if not distributed.is_initialized():  # another training of this process may have had another device
            AcceleratorState._reset_state(reset_partial_state=True)
        self._accelerator = Accelerator(
            cpu=device.type == "cpu",
            mixed_precision="fp16" if config.amp == "fp16" else "no",
            kwargs_handlers=[
                AutocastKwargs(
                    enabled=False
                ),  # the objective itself says what is computed in which precision
                # What a setting leaves unused gets no gradient.
                DistributedDataParallelKwargs(find_unused_parameters=True),
                InitProcessGroupKwargs(timeout=PATIENCE),
            ],
        )
        self.count, self.index = self._accelerator.num_processes, self._accelerator.process_index
        self.device = self._accelerator.device if self.count > 1 else device
        self.first = self.index == 0
        if not self.first:
            logging.disable(logging.WARNING)  # the first one says the same
        # Of its own, since NCCL would have a GPU wait for each answer.
        self._talk = distributed.new_group(backend="gloo", timeout=PATIENCE) if self.count > 1 else None

    def wrap(
        self, module: nn.Module, optimizer: torch.optim.Optimizer
    ) -> tuple[nn.Module, torch.optim.Optimizer]:
        """The module and its optimiser, such that gradients are averaged over the processes."""
        wrapped: tuple[nn.Module, torch.optim.Optimizer]
        wrapped = self._accelerator.prepare(module, optimizer, device_placement=[False, False])
        return wrapped

    def backward(self, loss: Tensor) -> None:
        """Compute the gradient of a loss, averaged over the processes."""
        self._accelerator.backward(loss)

    def clip(self, parameters: list[nn.Parameter], most: float) -> Tensor:
        """Scale a gradient down to the norm ``most`` if it is larger; returns the norm that it had."""
        return self._accelerator.clip_grad_norm_(parameters, most)

    def gather(self, rows: Tensor) -> Tensor:
        """The rows of all processes, in their order, to compute the same from them everywhere."""
        return _Gather.apply(rows) if self.count > 1 else rows

    def mean(self, values: Mapping[str, Tensor | float]) -> dict[str, float]:
        """Averages over the processes, which all have to ask for them."""
        numbers = torch.tensor([float(value) for value in values.values()], dtype=torch.float64)
        if self.count > 1:
            distributed.all_reduce(numbers, group=self._talk)
            numbers /= self.count
        return dict(zip(values, numbers.tolist(), strict=True))

    def any(self, holds: bool) -> bool:
        """Whether it holds in one process at least; all have to ask."""
        if self.count == 1:
            return holds
        said = torch.tensor(int(holds))
        distributed.all_reduce(said, distributed.ReduceOp.MAX, group=self._talk)
        return bool(said)

    def wait(self) -> None:
        """Wait until all processes are here."""
        self.any(False)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Turn the failure of a connection into a :class:`LostProcess`; end the connections afterwards."""
        try:
            yield
        except RuntimeError as error:
            broken = isinstance(error, distributed.DistError) or "gloo" in str(error)
            if self.count == 1 or not broken:
                raise
            raise LostProcess("Another process of this training died.") from error
        finally:
            self._accelerator.end_training()

    @property
    def state(self) -> dict[str, Any] | None:
        """Of the gradient's scale, which keeps fp16 from underflow; None in other precisions."""
        scaler = self._accelerator.scaler
        return None if scaler is None else dict(scaler.state_dict())

    @state.setter
    def state(self, value: dict[str, Any] | None) -> None:
        if self._accelerator.scaler is not None and value is not None:
            self._accelerator.scaler.load_state_dict(value)


class _Gather(torch.autograd.Function):
    """All processes compute the same from what was gathered, so each gets the same gradient of it.

    The sum over the processes of a row's gradient is then ``count`` times the own one. It is a sum, since the
    averaging of the gradients of weights divides by ``count``.
    """

    @staticmethod
    def forward(context: Any, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, rows.contiguous())
        context.rows = len(rows)
        return torch.cat(parts)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        own = gradients[0].split(context.rows)[distributed.get_rank()]
        return own * distributed.get_world_size()


def launched() -> int:
    """How many processes a launcher (ours, accelerate's or torchrun) started together with this one."""
    return int(os.environ.get("WORLD_SIZE", 1)) if "LOCAL_RANK" in os.environ else 1


def is_first() -> bool:
    """Whether this is the only process of a training, or the one that writes and reports."""
    return launched() == 1 or os.environ.get("RANK") == "0"


def check_shares(config: TrainConfig, count: int) -> None:
    """Raise a UsageError if so many processes cannot share a batch equally."""
    sizes = {"batch.size": config.batch.size}
    if config.alignment.kind != "none":
        sizes["batch.alignment_size"] = config.batch.alignment_size
    for key, size in sizes.items():
        if size % count:
            fit = [n for n in range(2, 65) if all(other % n == 0 for other in sizes.values())]
            raise UsageError(
                f"{key} = {size} is no multiple of {count} processes, which share each batch equally. "
                f"{' and '.join(f'{k} = {v}' for k, v in sizes.items())} can be shared by "
                f"{', '.join(map(str, fit)) or 'no number of'} processes."
            )
