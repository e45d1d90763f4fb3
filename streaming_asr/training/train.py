"""Owns the training loop of the acoustic model: one process or several under ``torchrun``, CPU or CUDA.

Plain CTC warms up, then CTC-CRF trains to the end, on request with two views of each recording that are to be told
alike; AdamW with a linear warm-up and a cosine decay; an exponential moving average of the weights is what ships. A
checkpoint every few minutes holds all that a killed run needs to go on.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import math
import os
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed
from torch.utils.data import DataLoader, Dataset

from ..errors import InputError
from ..files import remove_parts, replacing
from ..manifest import read_manifest
from ..model import AcousticModel, ModelConfig, load_model, save_model
from ..recordings import find_recordings
from ..tokens import NUM_TOKENS
from .ctc_crf import consistency_loss, ctc_crf_loss, estimate_trigram
from .data import NO_AUGMENTATION, Augmentation, length_buckets
from .dataset import Batch, DataSet, read_pronunciations
from .front_end import with_convolutions
from .g2p import edit_distance
from .runs import bfloat16_where_fast, learning_rate, read_settings

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a run. Seconds are of audio unless they say otherwise."""

    model: ModelConfig = field(default_factory=ModelConfig)
    epochs: float = 12.0
    batch_seconds: float = 120.0
    learning_rate: float = 2e-3
    warmup_steps: int = 300
    final_learning_rate: float = 2e-5
    weight_decay: float = 1e-2
    gradient_clip: float = 5.0
    dropout: float = 0.1
    ctc_epochs: float = 1.0  # plain CTC before CTC-CRF
    ctc_scale: float = 0.05
    consistency: float = 0.0  # weight of what two views of each recording differ by; 0: one view
    average_decay: float = 0.998
    augmentation: Augmentation = field(default_factory=Augmentation)
    clean_epochs: float = 1.0  # at the start, shortest first, undistorted
    low_weight: tuple[str, ...] = ()  # corpora (folders that recordings lie in) of which a third is heard an epoch
    seed: int = 1
    checkpoint_minutes: float = 4.0  # wall clock
    workers: int = 0  # processes that prepare batches, for a GPU; 0: a thread does


class Plan(Dataset[Batch]):
    """The batches of every epoch, by epoch and number: a resumed run, or another process, makes the same."""

    def __init__(
        self, config: TrainConfig, data: DataSet, mean: NDArray[np.float32], rank: int = 0, world_size: int = 1
    ) -> None:
        self._config, self._data, self._mean = config, data, mean
        self._rank, self._world_size = rank, world_size
        self._plans: dict[int, list[list[int]]] = {}  # of an epoch, and of the one before it

    def _epoch(self, epoch: int) -> list[list[int]]:
        plan = self._plans.get(epoch)
        if plan is None:
            config, data = self._config, self._data
            rng = np.random.default_rng((config.seed, epoch))
            indices = data.epoch_indices(config.low_weight, rng)
            num_frames = [data.features.num_frames(i) for i in indices]
            frames = int(config.batch_seconds * 100 / self._num_views(epoch))
            chosen = length_buckets(num_frames, frames, None if epoch < config.clean_epochs else rng)
            plan = [[indices[i] for i in batch] for batch in chosen]
            self._plans = {earlier: batches for earlier, batches in self._plans.items() if earlier == epoch - 1}
            self._plans[epoch] = plan
        return plan

    def _num_views(self, epoch: int) -> int:
        return 1 if epoch < self._config.clean_epochs or not self._config.consistency else 2

    def num_batches(self, epoch: int) -> int:
        """Of each process. Raises `InputError` if there are fewer than processes."""
        batches = len(self._epoch(epoch))
        if batches < self._world_size:
            raise InputError(f"{self._world_size} processes cannot share the {batches} batches of an epoch")
        return batches // self._world_size

    def __getitem__(self, which: tuple[int, int]) -> Batch:
        epoch, number = which
        chosen = self._epoch(epoch)[number * self._world_size + self._rank]
        rng = np.random.default_rng((self._config.seed, epoch, number, self._rank))
        policy = NO_AUGMENTATION if epoch < self._config.clean_epochs else self._config.augmentation
        return self._data.batch(chosen, policy, self._mean, rng, self._num_views(epoch))

    def batches(self, epoch: int, number: int, device: torch.device) -> Generator[Batch]:
        """From the given one on, without end, those to come being prepared; on the device."""

        def numbers() -> Iterator[tuple[int, int]]:
            first = number
            for later in itertools.count(epoch):
                yield from ((later, other) for other in range(first, self.num_batches(later)))
                first = 0

        # Its own generator: it draws a number that it would else take from what the steps draw dropout from.
        loader = DataLoader(
            self, None, sampler=numbers(), num_workers=self._config.workers, generator=torch.Generator()
        )
        yield from _prefetch(loader, device)


def _prefetch(batches: Iterable[Batch], device: torch.device, depth: int = 4) -> Generator[Batch]:
    """Runs ``batches`` in a thread, at most ``depth`` ahead, until it is closed."""
    ready: queue.Queue[Batch | BaseException | None] = queue.Queue(depth)
    is_closed = threading.Event()

    def put(item: Batch | BaseException | None) -> None:
        while not is_closed.is_set():
            with contextlib.suppress(queue.Full):
                ready.put(item, timeout=0.5)
                return

    def fill() -> None:
        try:
            # Copied in a queue of its own, so that a copy does not wait for the steps before it.
            new_stream: Callable[[torch.device], torch.cuda.Stream] = torch.cuda.Stream
            stream = new_stream(device) if device.type == "cuda" else None
            with torch.cuda.stream(stream):
                for batch in batches:
                    on_device = batch.to(device)
                    if stream is not None:
                        stream.synchronize()
                    put(on_device)
                    if is_closed.is_set():
                        return
            put(None)
        except BaseException as error:  # handed to the consumer, which raises it
            put(error)

    threading.Thread(target=fill, daemon=True).start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        is_closed.set()


class Trainer:
    """One run in ``folder``: ``checkpoint.pt`` (its own; loaded with ``weights_only``), ``log.jsonl``, ``model/``."""

    def __init__(
        self, config: TrainConfig, train: DataSet, dev: DataSet | None, folder: Path, init: AcousticModel | None = None
    ) -> None:
        self.config, self.dev_set, self.folder = config, dev, folder
        folder.mkdir(parents=True, exist_ok=True)
        self.rank = distributed.get_rank() if distributed.is_initialized() else 0
        self.world_size = distributed.get_world_size() if distributed.is_initialized() else 1
        self.device = (
            torch.device("cuda", self.rank % torch.cuda.device_count())
            if torch.cuda.is_available()
            else torch.device("cpu")
        )
        torch.set_flush_denormal(True)
        torch.manual_seed(config.seed)
        self.model = AcousticModel(config.model, config.dropout)
        mean, stddev = train.features.statistics()
        self.mean = mean
        self.plan = Plan(config, train, mean, self.rank, self.world_size)
        self.model.mean.copy_(torch.from_numpy(mean))
        self.model.inverse_stddev.copy_(torch.from_numpy(1 / np.maximum(stddev, 1e-3)))
        if init is not None:
            self.model.load_state_dict(init.state_dict())
        self.model.to(self.device)
        self.average = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        self.trigram = estimate_trigram([t for t in (train.targets[i] for i in train.indices) if t], NUM_TOKENS).to(
            self.device
        )
        matrices = [p for p in self.model.parameters() if p.ndim > 1]
        vectors = [p for p in self.model.parameters() if p.ndim <= 1]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": config.weight_decay},
                {"params": vectors, "weight_decay": 0.0},
            ],
            lr=config.learning_rate,
            betas=(0.9, 0.98),
        )
        self.step, self.epoch, self.seconds, self.wall_seconds = 0, 0, 0.0, 0.0
        self.position = 0  # batches of the current epoch that are done
        self.checkpoint = folder / "checkpoint.pt"
        if self.rank == 0:
            remove_parts(folder, self.checkpoint.name)
        if self.checkpoint.exists():
            self._restore()

    def _restore(self) -> None:
        saved: dict[str, Any] = torch.load(self.checkpoint, map_location=self.device, weights_only=True)
        self.model.load_state_dict(saved["model"])
        self.average = saved["average"]
        moments = saved["optimizer"]["state"]  # without its settings, which are the config's
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})
        self.step, self.epoch, self.position = saved["step"], saved["epoch"], saved["position"]
        self.seconds, self.wall_seconds = saved["seconds"], saved["wall_seconds"]
        logger.info("resumed at epoch %d, step %d", self.epoch, self.step)

    def save(self) -> None:
        """Writes the checkpoint, atomically, and from it the averaged model."""
        if self.rank:
            return
        state = {
            "model": self.model.state_dict(), "average": self.average, "optimizer": self.optimizer.state_dict(),
            "step": self.step, "epoch": self.epoch, "position": self.position,
            "seconds": self.seconds, "wall_seconds": self.wall_seconds,
        }  # fmt: skip
        with replacing(self.checkpoint) as file:
            torch.save(state, file)
        save_model(self.averaged(), self.folder / "model")

    def averaged(self) -> AcousticModel:
        """The model with the moving average of the weights, for inference."""
        model = AcousticModel(self.config.model)
        model.load_state_dict(self.average)
        return model.eval().requires_grad_(False)

    def _loss(self, model: AcousticModel, batch: Batch, crf: bool) -> tuple[Tensor, int]:
        """Summed loss of a batch, and its number of output frames."""
        device = self.device.type
        state = model.initial_state(len(batch.frames))
        with bfloat16_where_fast(device):
            log_probs, _ = model(batch.frames, state)
        lengths = batch.num_frames // self.config.model.frames_per_output
        loss = ctc_crf_loss(
            log_probs.float().transpose(0, 1), lengths, batch.targets, batch.target_lengths,
            self.trigram, 1.0 if crf else 0.0, self.config.ctc_scale if crf else 1.0,
        )  # fmt: skip
        total = loss.sum()
        if batch.num_views == 2:
            total = total + self.config.consistency * consistency_loss(log_probs.float(), lengths)
        return total, int(lengths.sum())

    def run(self, max_wall_seconds: float = math.inf) -> None:
        """Trains to the end of the config's epochs, or until this call has run ``max_wall_seconds``."""
        config = self.config
        began = last_saved = time.monotonic()
        self.model.train()
        totals = np.zeros(2)
        batches = self.plan.batches(self.epoch, self.position, self.device)
        while (exact_epoch := self.epoch + self.position / self.plan.num_batches(self.epoch)) < config.epochs:
            batch = next(batches)
            step_began = time.monotonic()
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate(config, self.step, exact_epoch / config.epochs)
            # What is dropped depends on nothing before, so that a run goes on as if it had not been stopped.
            torch.manual_seed((config.seed << 32) + self.step * self.world_size + self.rank)
            loss, num_frames = self._loss(self.model, batch, crf=exact_epoch >= config.ctc_epochs)
            self.optimizer.zero_grad()
            torch.autograd.backward(loss / num_frames)
            out_of_time = self._average_gradients(step_began - began > max_wall_seconds)
            norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.gradient_clip)
            if torch.isfinite(norm):
                self.optimizer.step()
            else:
                logger.warning("step %d skipped: its gradient is not finite", self.step)
            decay = min(config.average_decay, (1 + self.step) / (10 + self.step))
            for name, tensor in self.model.state_dict().items():
                self.average[name].lerp_(tensor, 1 - decay)
            self.step += 1
            self.position += 1
            ends_epoch = self.position == self.plan.num_batches(self.epoch)
            if ends_epoch:
                self.epoch, self.position = self.epoch + 1, 0
            seconds = float(batch.num_frames.sum()) / 100
            self.seconds += seconds
            self.wall_seconds += time.monotonic() - step_began
            totals += (float(loss.detach()), num_frames)
            if self.step % 20 == 0:
                self._log(
                    step=self.step, epoch=round(exact_epoch, 3), loss=totals[0] / totals[1], grad=float(norm),
                    lr=self.optimizer.param_groups[0]["lr"], speed=seconds / (time.monotonic() - step_began),
                    hours=self.seconds / 3600, wall=self.wall_seconds,
                )  # fmt: skip
                totals[:] = 0
            if out_of_time:
                break
            if time.monotonic() - last_saved > 60 * config.checkpoint_minutes:
                self.save()
                last_saved = time.monotonic()
            if ends_epoch and self.dev_set is not None and self.rank == 0:
                self._log(epoch=self.epoch, **self.evaluate())
        batches.close()
        self.save()

    def _average_gradients(self, out_of_time: bool) -> bool:
        """Averages over the processes of a data-parallel run; whether any of them is out of time."""
        if self.world_size == 1:
            return out_of_time
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        joined = torch.cat([g.flatten() for g in gradients] + [gradients[0].new_tensor([float(out_of_time)])])
        distributed.all_reduce(joined)
        joined /= self.world_size
        first = 0
        for gradient in gradients:
            gradient.copy_(joined[first : first + gradient.numel()].view_as(gradient))
            first += gradient.numel()
        return bool(joined[-1] > 0)

    def evaluate(self) -> dict[str, float]:
        """CTC loss a frame and greedy phone error rate of the averaged model on some 200 recordings spread over dev."""
        assert self.dev_set is not None
        model = self.averaged().to(self.device)
        loss = frames = errors = phones = 0.0
        rng = np.random.default_rng(0)
        chosen = self.dev_set.indices[:: max(1, len(self.dev_set.indices) // 200)]
        order = sorted(chosen, key=self.dev_set.features.num_frames)
        with torch.inference_mode():
            for first in range(0, len(order), 16):
                batch = self.dev_set.batch(order[first : first + 16], NO_AUGMENTATION, self.mean, rng).to(self.device)
                log_probs, _ = model(batch.frames, model.initial_state(len(batch.frames)))
                lengths = (batch.num_frames // self.config.model.frames_per_output).tolist()
                total, number = self._loss(model, batch, crf=False)
                loss, frames = loss + float(total), frames + number
                for row, length, target, size in zip(
                    log_probs.argmax(-1).cpu().tolist(),
                    lengths,
                    batch.targets.tolist(),
                    batch.target_lengths.tolist(),
                    strict=True,
                ):
                    path = row[:length]
                    found = [c for i, c in enumerate(path) if c and (i == 0 or path[i - 1] != c)]
                    errors, phones = errors + edit_distance(found, target[:size]), phones + size
        return {"dev_ctc": loss / frames, "dev_per": errors / phones}

    def _log(self, **values: float) -> None:
        if self.rank == 0:
            rounded = {k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in values.items()}
            line = json.dumps(rounded)
            logger.info("%s", line)
            with open(self.folder / "log.jsonl", "a") as file:
                file.write(line + "\n")


@contextlib.contextmanager
def _first_process_first() -> Iterator[None]:
    if distributed.is_initialized() and distributed.get_rank():
        distributed.barrier()
    yield
    if distributed.is_initialized() and not distributed.get_rank():
        distributed.barrier()


def _check_low_weight(names: Sequence[str], folders: Sequence[Path]) -> None:
    """Raises `InputError` for a name that no recording lies in: its corpus would count in full."""
    if not names:
        return
    held = {recording.path.parent.name for recording in find_recordings(list(folders))}
    for name in names:
        if name not in held:
            raise InputError(f"low_weight: no recording lies in a folder named {name!r}")


def train(
    folders: Sequence[Path],
    lexicon: Path,
    output: Path,
    *,
    dev: Path | None = None,
    config: Path | None = None,
    init: Path | None = None,
    max_hours: float | None = None,
) -> None:
    """Trains on LibriSpeech-style ``folders``; see the command ``streaming-asr train`` for the arguments.

    Run under ``torchrun`` it trains data-parallel (gloo on CPUs, nccl on GPUs), with ``batch_seconds`` a process.
    """
    settings = read_settings(config, TrainConfig)
    _check_low_weight(settings.low_weight, folders)
    if "WORLD_SIZE" in os.environ and not distributed.is_initialized():
        backend = "nccl" if torch.cuda.is_available() else "gloo"
        distributed.init_process_group(backend, timeout=timedelta(days=1))  # extracting features takes hours
    pronunciations = read_pronunciations(lexicon)
    model = load_model(init).with_phases(1) if init else None  # whose outputs are not late
    shape = settings.model
    distortion_seed = settings.seed if settings.augmentation.distorted else None
    with _first_process_first():  # it fills the caches that the others read
        training = DataSet(list(folders), pronunciations, output / "features", shape, distortion_seed)
        held_out = DataSet([dev], pronunciations, output / "features", shape) if dev else None
        if init and model:
            version = read_manifest(init).sha256[:16]
            training.realign(model, pronunciations, output / f"targets-by-{version}")
            if settings.model.channels and not model.config.channels:
                folder = output / f"init-from-{version}"
                if not folder.exists():
                    channels, policy = settings.model.channels, settings.augmentation
                    save_model(with_convolutions(model, channels, training, policy, settings.seed), folder)
                model = load_model(folder)
    Trainer(settings, training, held_out, output, model).run(math.inf if max_hours is None else 3600 * max_hours)
