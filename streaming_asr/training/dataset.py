"""Owns what a step of training gets: recordings with the phones of their transcripts, augmented, in batches.

At first the usual pronunciation of each word is taken. A trained model can say which was said, and in which pauses
recordings can be cut and spliced. Knows neither the objective nor the loop.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import InputError
from ..files import replacing
from ..model import AcousticModel, ModelConfig
from ..recordings import Recording, find_recordings
from ..tokens import PHONE_ID
from .alignment import find_pauses, viterbi
from .data import Augmentation, FeatureCache, Half, augment, draw_tempo

logger = logging.getLogger(__name__)

LONGEST_FRAMES = 3600  # of a recording that is trained on: 36 s
PEERS_TRIED = 4  # recordings of the same speaker of which the one that fits best ends a spliced one
LENGTH_TOLERANCE = 150  # frames by which a spliced recording may be longer or shorter, so that batches stay as planned


def read_pronunciations(path: Path) -> dict[str, list[list[int]]]:
    """The pronunciations of each word in a ``word<TAB>PH PH`` file, the usual one first, as phone ids.

    :raises InputError: there is no such file, or it names an unknown phone.
    """
    pronunciations: dict[str, list[list[int]]] = {}
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the lexicon {path}: {getattr(error, 'strerror', None) or error}") from error
    for number, line in enumerate(lines, 1):
        word, _, phones = line.partition("\t")
        try:
            ids = [PHONE_ID[phone] for phone in phones.split()]
        except KeyError as error:
            raise InputError(f"{path}, line {number}: unknown phone {error}") from None
        if ids not in (known := pronunciations.setdefault(word, [])):
            known.append(ids)
    return pronunciations


def phone_targets(recordings: list[Recording], pronunciations: dict[str, list[list[int]]]) -> list[list[int] | None]:
    """Phone ids of each transcript, of the usual pronunciations; None for one with a word that has none."""
    targets: list[list[int] | None] = []
    for recording in recordings:
        if all(word in pronunciations for word in recording.words):
            targets.append([phone for word in recording.words for phone in pronunciations[word][0]])
        else:
            targets.append(None)
    return targets


@dataclass
class Batch:
    """Padded features float32 [B, T, 80], lengths in frames [B], targets int64 [B, U], their lengths [B].

    With several views of each recording the first of all come first, then the second of all: same lengths and targets.
    """

    frames: Tensor
    num_frames: Tensor
    targets: Tensor
    target_lengths: Tensor
    num_views: int = 1

    def to(self, device: torch.device) -> Batch:
        """The same on another device."""
        return Batch(
            self.frames.to(device), self.num_frames.to(device), self.targets.to(device),
            self.target_lengths.to(device), self.num_views,
        )  # fmt: skip


class Cut(NamedTuple):
    """A frame of a recording in a pause, and how many phones of its target were said before."""

    frame: int
    num_phones: int


class DataSet:
    """Recordings that have targets, with their features, and on demand those of a distorted copy of each."""

    def __init__(
        self,
        folders: list[Path],
        pronunciations: dict[str, list[list[int]]],
        cache: Path,
        shape: ModelConfig,
        distortion_seed: int | None = None,
    ) -> None:
        recordings = find_recordings(folders)
        features = FeatureCache(recordings, cache)
        self.distorted = None if distortion_seed is None else FeatureCache(recordings, cache, distortion_seed)
        targets = phone_targets(recordings, pronunciations)
        self.features = features
        self.indices = [
            index
            for index, target in enumerate(targets)
            if target
            and features.num_frames(index) // shape.frames_per_output >= len(target)
            and features.num_frames(index) < LONGEST_FRAMES
        ]
        self.targets = targets
        self.cuts: dict[int, list[Cut]] = {}  # of recordings that have any
        self._peers: dict[str, list[int]] = {}  # recordings with cuts of each speaker
        self.recordings = recordings
        self.shape = shape
        hours = sum(map(features.num_frames, self.indices)) / 360_000
        logger.info("%d of %d recordings, %.2f hours", len(self.indices), len(recordings), hours)

    def batch(
        self,
        indices: list[int],
        policy: Augmentation,
        mean: NDArray[np.float32],
        rng: np.random.Generator,
        num_views: int = 1,
    ) -> Batch:
        """Loads and augments the given recordings, each ``num_views`` times: at one pace, otherwise independently."""
        views: list[list[tuple[NDArray[np.float32], list[int]]]] = [[] for _ in range(num_views)]
        for index in indices:
            is_spliced = index in self.cuts and rng.random() < policy.spliced
            splice_seed, tempo = rng.integers(2**63), draw_tempo(policy, rng)
            for view in views:
                source = self.features
                if self.distorted is not None and rng.random() < policy.distorted:
                    source = self.distorted
                features, target = source[index], self.targets[index]
                assert target is not None
                if is_spliced:
                    features, target = self._spliced(index, source, target, np.random.default_rng(splice_seed))
                array = augment(features, policy, mean, tempo, rng)
                if len(array) < self.shape.frames_per_output * len(target) + self.shape.frames_per_step:
                    # stretched too far for its labels
                    array = features.astype(np.float32)
                view.append((array, target))
        arrays, targets = zip(*itertools.chain(*views), strict=True)
        step = self.shape.frames_per_step
        longest = -(-max(map(len, arrays)) // step) * step
        frames = np.zeros((len(arrays), longest, arrays[0].shape[1]), np.float32)
        for index, array in enumerate(arrays):
            frames[index, : len(array)] = array
            frames[index, len(array) :] = array[-1]
        padded = np.zeros((len(targets), max(map(len, targets))), np.int64)
        for row, labels in zip(padded, targets, strict=True):
            row[: len(labels)] = labels
        lengths = [-(-len(array) // step) * step for array in arrays]
        return Batch(
            torch.from_numpy(frames),
            torch.tensor(lengths),
            torch.from_numpy(padded),
            torch.tensor([len(t) for t in targets]),
            num_views,
        )

    def _spliced(
        self, index: int, source: FeatureCache, target: list[int], rng: np.random.Generator
    ) -> tuple[Half, list[int]]:
        """A recording up to one of its cuts, and from there on another one of the speaker, of about the same length.

        What is heard no longer tells what follows: the network cannot learn the sentences of the few transcripts.
        """
        cut = self.cuts[index][rng.integers(len(self.cuts[index]))]
        rest = source.num_frames(index) - cut.frame
        peers = self._peers[self.recordings[index].speaker]
        others = [peers[chosen] for chosen in rng.integers(len(peers), size=PEERS_TRIED)]
        ends = [(other, end) for other in others if other != index for end in self.cuts[other]]
        misfit, other, end = min(
            ((abs(source.num_frames(other) - end.frame - rest), other, end) for other, end in ends),
            default=(LENGTH_TOLERANCE + 1, index, cut),
        )
        if misfit > LENGTH_TOLERANCE:
            return source[index], target
        joined = np.concatenate((source[index][: cut.frame], source[other][end.frame :]))
        return joined, target[: cut.num_phones] + (self.targets[other] or [])[end.num_phones :]

    def realign(self, model: AcousticModel, pronunciations: dict[str, list[list[int]]], folder: Path) -> None:
        """Lets ``model`` say which pronunciations were said, and where recordings can be cut.

        Kept in ``folder``, which is to name the model, for these recordings and pronunciations.
        """
        subject = msgspec.json.encode(([str(recording.path) for recording in self.recordings], pronunciations))
        cache = folder / f"{hashlib.sha256(subject).hexdigest()[:16]}.json"
        if not cache.exists():
            folder.mkdir(parents=True, exist_ok=True)
            heard = {index: self._hear(model, index, pronunciations) for index in self.indices}
            with replacing(cache) as file:
                file.write(json.dumps({index: found for index, found in heard.items() if found}).encode())
        changed = 0
        for name, (target, cuts) in json.loads(cache.read_text()).items():
            index = int(name)
            changed += self.targets[index] != target
            self.targets[index] = target
            if cuts:
                self.cuts[index] = [Cut(*cut) for cut in cuts]
                self._peers.setdefault(self.recordings[index].speaker, []).append(index)
        logger.info("%d recordings have another pronunciation of a word than the usual one", changed)

    def _hear(
        self, model: AcousticModel, index: int, pronunciations: dict[str, list[list[int]]]
    ) -> tuple[list[int], list[Cut]] | None:
        frames = self.features[index].astype(np.float32)
        frames = np.concatenate((frames, np.repeat(frames[-1:], -len(frames) % self.shape.frames_per_step, axis=0)))
        with torch.inference_mode():
            log_probs, _ = model(torch.from_numpy(frames)[None], model.initial_state(1))
        words = [pronunciations[word] for word in self.recordings[index].words]
        spans = viterbi(log_probs[0].numpy(), words)
        if spans is None:
            return None
        said = [variants[span.pronunciation] for variants, span in zip(words, spans, strict=True)]
        num_phones = list(itertools.accumulate(map(len, said), initial=0))
        pauses = find_pauses(self.features[index], spans, model.config.frames_per_output)
        return list(itertools.chain(*said)), [Cut(pause.frame, num_phones[pause.num_words]) for pause in pauses]

    def epoch_indices(self, low_weight: tuple[str, ...], rng: np.random.Generator) -> list[int]:
        """The recordings heard in one epoch: all, but a random third of the low-weight corpora."""
        return [
            index
            for index in self.indices
            if self.recordings[index].path.parent.name not in low_weight or rng.random() < 1 / 3
        ]
