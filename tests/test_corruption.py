"""Model folders that something happened to: each is refused at the start, and the message names the file and why."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch

from streaming_asr.cli import main
from streaming_asr.errors import InputError, ModelError
from streaming_asr.formatting.punctuation import PunctuationNetwork, Punctuator
from streaming_asr.g2p import G2P, G2PLevel
from streaming_asr.lexicon import Lexicon
from streaming_asr.model import AcousticModel, ModelConfig, save_model
from streaming_asr.neural_lm import PieceLM, Spelling, save_neural_lm
from streaming_asr.ngram import NGram, vocabulary_fingerprint
from streaming_asr.recognizer import Recognizer
from streaming_asr.speech_network import DEAF
from streaming_asr.training.export import export_model

CONFIG, WEIGHTS, LEXICON, LM = "config.json", "model.safetensors", "lexicon.txt", "lm.safetensors"
PUNCTUATION, PRONOUNCER, NEURAL_LM = "punctuation.safetensors", "g2p.safetensors", "neural_lm.safetensors"
SPEECH = "speech.safetensors"
FILES = (CONFIG, WEIGHTS, LEXICON, LM, PUNCTUATION, PRONOUNCER, NEURAL_LM, SPEECH)
WORDS = {"yes": "Y EH S", "no": "N OW", "go": "G OW"}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model that loads."""
    folder = tmp_path_factory.mktemp("good")
    lexicon = Lexicon.from_text("".join(f"{word}\t{phones}\n" for word, phones in WORDS.items()))
    lexicon.save(folder / LEXICON)
    unigrams = "".join(f"-1\t{word}\n" for word in [*WORDS, "<s>", "</s>", "<unk>"])
    (folder / "lm.arpa").write_text(f"\\data\\\nngram 1=6\n\n\\1-grams:\n{unigrams}\n\\end\\\n")
    NGram.from_arpa(folder / "lm.arpa", lexicon.words).save(folder / LM)
    torch.manual_seed(0)
    save_model(AcousticModel(ModelConfig(num_layers=1, hidden_size=8)), folder / "acoustic")
    Punctuator(list(WORDS), PunctuationNetwork(len(WORDS), 8, 8, 1)).save(folder / PUNCTUATION)
    units = [(letter, (phone,)) for letter, phone in zip("yesno", ["Y", "EH", "S", "N", "OW"], strict=True)]
    G2P(units, [G2PLevel(np.arange(7), np.full(7, -2.0), np.zeros(7))]).save(folder / PRONOUNCER)
    spelling = Spelling(np.ones(3, np.uint8), np.array([2, 3, 4], np.uint16))
    save_neural_lm(folder / NEURAL_LM, PieceLM(5, 4, 4, 1), spelling, vocabulary_fingerprint(lexicon.words))
    DEAF.save(folder / SPEECH)
    sources = folder / "acoustic", folder / LEXICON, folder / LM
    export_model(
        *sources, folder / "model", name="tiny",
        punctuation=folder / PUNCTUATION, g2p=folder / PRONOUNCER, neural_lm=folder / NEURAL_LM,
        speech=folder / SPEECH,
    )  # fmt: skip
    return folder / "model"


def rewrite(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def corrupt(folder: Path) -> None:
        (folder / name).write_bytes(change((folder / name).read_bytes()))

    return corrupt


def signed(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """The same, by somebody who put the right digest into the manifest."""

    def corrupt(folder: Path) -> None:
        rewrite(name, change)(folder)
        manifest = json.loads((folder / CONFIG).read_bytes())
        digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        if name == WEIGHTS:
            manifest["sha256"] = digest
        else:
            manifest["files"][name] = digest
        (folder / CONFIG).write_text(json.dumps(manifest))

    return corrupt


def configured(*path: str, value: Any) -> Callable[[Path], None]:
    """A manifest in which one value is another; `...` takes it out."""

    def change(content: bytes) -> bytes:
        manifest = inner = json.loads(content)
        for key in path[:-1]:
            inner = inner[key]
        if value is ...:
            del inner[path[-1]]
        else:
            inner[path[-1]] = value
        return json.dumps(manifest).encode()

    return rewrite(CONFIG, change)


def tensors(change: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    def rewritten(content: bytes) -> bytes:
        held = safetensors.numpy.load(content)
        change(held)
        size = int.from_bytes(content[:8], "little")
        metadata = json.loads(content[8 : 8 + size]).get("__metadata__")
        return safetensors.numpy.save(held, metadata)

    return rewritten


def flipped(position: float) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        at = int(position * (len(content) - 1))
        return content[:at] + bytes([content[at] ^ 0x10]) + content[at + 1 :]

    return change


def cut(share: float) -> Callable[[bytes], bytes]:
    return lambda content: content[: int(share * len(content))]


def missing(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def a_folder(name: str) -> Callable[[Path], None]:
    def corrupt(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    return corrupt


def swapped(folder: Path) -> None:
    (folder / "x").write_bytes((folder / LM).read_bytes())
    (folder / LM).write_bytes((folder / WEIGHTS).read_bytes())
    (folder / WEIGHTS).write_bytes((folder / "x").read_bytes())


def of_fewer_words(held: dict[str, Any]) -> None:
    held.update(length=held["length"][:-1], pieces=held["pieces"][:-1])


def described(key: str, value: str) -> Callable[[bytes], bytes]:
    """A file of tensors that says another thing about them."""

    def rewritten(content: bytes) -> bytes:
        size = int.from_bytes(content[:8], "little")
        metadata = json.loads(content[8 : 8 + size])["__metadata__"]
        return safetensors.numpy.save(safetensors.numpy.load(content), metadata | {key: value})

    return rewritten


HUGE_HEADER = (1 << 60).to_bytes(8, "little") + b"{}"
PICKLE = b"\x80\x04cposix\nsystem\n(S'true'\ntR."

CORRUPTIONS: list[tuple[str, str, Callable[[Path], None]]] = [
    *[(f"{name} missing", name, missing(name)) for name in FILES],
    *[(f"{name} is a folder", name, a_folder(name)) for name in FILES],
    *[(f"{name} empty", name, rewrite(name, cut(0))) for name in FILES],
    *[(f"{name} half", name, rewrite(name, cut(0.5))) for name in FILES],
    *[(f"{name} flipped at {at}", name, rewrite(name, flipped(at))) for name in FILES[1:] for at in (0, 1)],
    ("weights and LM swapped", LM, swapped),
    ("weights pickled", WEIGHTS, signed(WEIGHTS, lambda _: PICKLE)),
    ("weights cut", WEIGHTS, signed(WEIGHTS, cut(0.9))),
    ("weights with a huge header", WEIGHTS, signed(WEIGHTS, lambda _: HUGE_HEADER)),
    ("weights lack a tensor", WEIGHTS, signed(WEIGHTS, tensors(lambda held: held.pop("output.weight")))),
    ("weights of another shape", WEIGHTS, signed(WEIGHTS, tensors(lambda held: held.update(mean=held["mean"][:40])))),
    (
        "weights not finite",
        WEIGHTS,
        signed(WEIGHTS, tensors(lambda held: held.update(mean=np.full(80, np.nan, np.float16)))),
    ),
    ("LM cut", LM, signed(LM, cut(0.9))),
    ("LM pickled", LM, signed(LM, lambda _: PICKLE)),
    ("LM with a huge header", LM, signed(LM, lambda _: HUGE_HEADER)),
    ("LM lacks a tensor", LM, signed(LM, tensors(lambda held: held.pop("word", held.popitem())))),
    ("punctuation pickled", PUNCTUATION, signed(PUNCTUATION, lambda _: PICKLE)),
    ("punctuation with a huge header", PUNCTUATION, signed(PUNCTUATION, lambda _: HUGE_HEADER)),
    ("punctuation lacks a table", PUNCTUATION, signed(PUNCTUATION, tensors(lambda held: held.pop("out.weight")))),
    (
        "punctuation with one scale for all rows",
        PUNCTUATION,
        signed(PUNCTUATION, tensors(lambda held: held.update({"out.weight.scale": held["out.weight.scale"][:1]}))),
    ),
    (
        "punctuation with a scale that is infinite",
        PUNCTUATION,
        signed(PUNCTUATION, tensors(lambda held: held.update({"out.weight.scale": np.full(6, np.inf, np.float32)}))),
    ),
    ("punctuation of fewer words", PUNCTUATION, signed(PUNCTUATION, described("words", "yes no"))),
    ("punctuation that names a word twice", PUNCTUATION, signed(PUNCTUATION, described("words", "yes no yes"))),
    ("punctuation of no sizes", PUNCTUATION, signed(PUNCTUATION, described("sizes", "8"))),
    ("pronunciation model pickled", PRONOUNCER, signed(PRONOUNCER, lambda _: PICKLE)),
    ("neural LM pickled", NEURAL_LM, signed(NEURAL_LM, lambda _: PICKLE)),
    ("neural LM with a huge header", NEURAL_LM, signed(NEURAL_LM, lambda _: HUGE_HEADER)),
    ("neural LM lacks a tensor", NEURAL_LM, signed(NEURAL_LM, tensors(lambda held: held.pop("projection.weight")))),
    ("neural LM of fewer words", LEXICON, signed(NEURAL_LM, tensors(of_fewer_words))),
    ("speech network pickled", SPEECH, signed(SPEECH, lambda _: PICKLE)),
    ("speech network lacks a tensor", SPEECH, signed(SPEECH, tensors(lambda held: held.pop("gates")))),
    ("speech network of no units", SPEECH, signed(SPEECH, tensors(lambda held: held.update(score=held["score"][:0])))),
    ("pronunciation model lacks a table", PRONOUNCER, signed(PRONOUNCER, tensors(lambda held: held.pop("1.unit")))),
    (
        "pronunciation model out of order",
        PRONOUNCER,
        signed(PRONOUNCER, tensors(lambda held: held.update({"1.unit": held["1.unit"][::-1].copy()}))),
    ),
    (
        "pronunciation model with a unit beyond the last",
        PRONOUNCER,
        signed(PRONOUNCER, tensors(lambda held: held.update({"1.unit": held["1.unit"] + np.uint16(1)}))),
    ),
    ("pronunciation model of fewer units", PRONOUNCER, signed(PRONOUNCER, described("units", '["y Y"]'))),
    ("pronunciation model of no units", PRONOUNCER, signed(PRONOUNCER, described("units", "[7]"))),
    ("pronunciation model of no order", PRONOUNCER, signed(PRONOUNCER, described("order", "0"))),
    ("LM of other words", LEXICON, signed(LEXICON, lambda content: content + b"maybe\tM EY B IY\n")),
    ("lexicon of unknown phones", LEXICON, signed(LEXICON, lambda content: content + b"x\tQQ\n")),
    ("lexicon without a tab", LEXICON, signed(LEXICON, lambda content: content + b"x Y EH S\n")),
    ("lexicon not UTF-8", LEXICON, signed(LEXICON, lambda content: content + b"\xff\tY\n")),
    ("lexicon without words", LEXICON, signed(LEXICON, lambda content: b"")),
    ("lexicon of a word that is none", LEXICON, signed(LEXICON, lambda content: b" \tY\n" + content)),
    ("config not JSON", CONFIG, rewrite(CONFIG, lambda content: content + b"}")),
    ("config not an object", CONFIG, rewrite(CONFIG, lambda _: b"[]")),
    ("config not UTF-8", CONFIG, rewrite(CONFIG, lambda _: b"\xff\xfe{}")),
    ("config too deep", CONFIG, rewrite(CONFIG, lambda _: b"[" * 100_000)),
    ("config without a model", CONFIG, configured("model", value=...)),
    ("config of no model", CONFIG, configured("model", value=7)),
    ("config of an unknown cell", CONFIG, configured("model", "cell", value="transformer")),
    ("config of a network without end", CONFIG, configured("model", "num_layers", value=65536)),
    ("config of a huge network", CONFIG, configured("model", "hidden_size", value=1 << 40)),
    ("config of another network", WEIGHTS, configured("model", "hidden_size", value=16)),
    ("config of a huge network that might be", WEIGHTS, configured("model", "hidden_size", value=65536)),
    ("config with an unknown field", CONFIG, configured("model", "attention", value=1)),
    ("config without digest", CONFIG, configured("sha256", value=...)),
    ("config without a name", CONFIG, configured("name", value=...)),
    ("config with a name that is none", CONFIG, configured("name", value=7)),
    ("config without files", CONFIG, configured("files", value=...)),
    ("config with files that are none", CONFIG, configured("files", value=[])),
    ("config without the LM's digest", CONFIG, configured("files", LM, value=...)),
    ("config with an unknown decoder option", CONFIG, configured("decoder", value={"beem": 5})),
    ("config with a decoder that is none", CONFIG, configured("decoder", value=[])),
    ("config with a beam of the wrong type", CONFIG, configured("decoder", value={"beam": "5"})),
    ("config with a beam out of range", CONFIG, configured("decoder", value={"beam": 0})),
]


def test_there_are_enough_of_them(good: Path) -> None:
    assert len(CORRUPTIONS) >= 50
    assert Recognizer.load(good).name == "tiny"


@pytest.mark.parametrize(("name", "corrupt"), [row[1:] for row in CORRUPTIONS], ids=[row[0] for row in CORRUPTIONS])
def test_a_corrupted_folder_is_refused_with_file_and_reason(
    name: str, corrupt: Callable[[Path], None], good: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(good, tmp_path / "model")
    corrupt(folder)
    with pytest.raises((ModelError, InputError)) as caught:
        Recognizer.load(folder)
    assert str(folder / name) in str(caught.value)
    assert "\n" not in str(caught.value)[:100]


def test_serve_says_it_in_one_line_and_leaves(good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = shutil.copytree(good, tmp_path / "model")
    rewrite(WEIGHTS, cut(0.5))(folder)
    assert main(["serve", "--port", "0", "--model", str(folder)]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert f"{folder / WEIGHTS} is damaged" in said.err
