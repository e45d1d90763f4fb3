import math
from pathlib import Path

import numpy as np
import pytest

from streaming_asr import calibration
from streaming_asr.admission import StepCost
from streaming_asr.calibration import (
    BATCH,
    FRONT_SECONDS,
    SEARCHES,
    SPOKEN_FRAMES,
    kept_cost,
    made_up_speech,
    measure_step,
)
from streaming_asr.decoder import Decoder, DecoderOptions
from streaming_asr.errors import InputError
from streaming_asr.lexicon import Lexicon, LexiconTree
from streaming_asr.model import AcousticModel, ModelConfig
from streaming_asr.network import Network
from streaming_asr.ngram import NGram

WORDS = "beet\tB IY T\nbee\tB IY\nseat\tS IY T\nsee\tS IY\n"


def make_decoder(folder: Path) -> Decoder:
    lexicon = Lexicon.from_text(WORDS)
    unigrams = [f"-1.0\t{word}" for word in (*lexicon.words, "</s>", "<unk>")]
    arpa = folder / "lm.arpa"
    arpa.write_text("\n".join(["\\data\\", f"ngram 1={len(unigrams)}", "", "\\1-grams:", *unigrams, "", "\\end\\", ""]))
    ngram = NGram.from_arpa(arpa, lexicon.words)
    return Decoder(LexiconTree.build(lexicon, ngram.unigram_log_probs), ngram, DecoderOptions(beam=50))


def make_network() -> Network:
    return Network(AcousticModel(ModelConfig(num_layers=1, hidden_size=32)).eval(), "float32")


def test_what_a_step_costs_is_put_together_from_its_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, many, front = 0.003, 0.003 + 0.0001 * (BATCH - 1), 0.001 * FRONT_SECONDS
    alone, together = (SPOKEN_FRAMES * (0.0004 + 0.0005 * size) for size in (1, SEARCHES))
    times = iter([one, many, alone, together, front])
    monkeypatch.setattr(calibration, "_shortest", lambda work: next(times))
    cost = measure_step(make_network(), make_decoder(tmp_path))
    assert cost.audio_seconds == 0.06
    assert cost.per_stream == pytest.approx(0.0001 + 0.001 * 0.06 + 2 * 0.0005)  # network, front end, search
    assert cost.fixed == pytest.approx(0.003 - 0.0001 + 2 * 0.0004)


def test_it_is_measured_on_this_machine(tmp_path: Path) -> None:
    cost = measure_step(make_network(), make_decoder(tmp_path))
    assert 0 <= cost.fixed < math.inf
    assert 0 < cost.per_stream < math.inf


def test_made_up_speech_is_words_of_the_lexicon(tmp_path: Path) -> None:
    decoder = make_decoder(tmp_path)
    speech = made_up_speech(decoder.tree, 60)
    assert np.allclose(np.exp(speech).sum(axis=1), 1.0, atol=1e-5)
    state = decoder.start()
    decoder.step(state, speech)
    assert len(decoder.finish(state)[0].words) >= 3
    assert math.isfinite(decoder.finish(state)[0].score)


COST = StepCost(0.002, 0.0001, 0.06)


def unwanted() -> StepCost:
    raise AssertionError("it was measured before")


def test_what_was_measured_is_kept_for_the_next_start(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    assert kept_cost(path, "en 1", lambda: COST) == COST
    assert kept_cost(path, "en 1", unwanted) == COST
    assert b"\n" in path.read_bytes().strip()  # to be read by people


@pytest.mark.parametrize("changed", ["model", "processor"])
def test_what_was_measured_of_something_else_is_measured_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    path, other = tmp_path / "calibration.json", StepCost(0.004, 0.0002, 0.06)
    kept_cost(path, "en 1", lambda: COST)
    if changed == "processor":
        monkeypatch.setattr(calibration, "processor", lambda: "abacus")
    subject = "en 2" if changed == "model" else "en 1"
    assert kept_cost(path, subject, lambda: other) == other
    assert kept_cost(path, subject, unwanted) == other


def test_a_file_that_is_something_else_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "server.toml"
    free = b'{"measured": "en 1", "cost": {"fixed": 0.0, "per_stream": 0.0, "audio_seconds": 0.06}}'
    for content in (b"port = 1\n", b'{"cost": 1}', b"\xff", b'{"measured": "\xff"}', b"[" * 100_000, free):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"server\.toml is not a calibration"):
            kept_cost(path, "en 1", lambda: COST)
        assert path.read_bytes() == content


def test_a_place_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be kept in .*missing"):
        kept_cost(tmp_path / "missing" / "calibration.json", "en 1", lambda: COST)
