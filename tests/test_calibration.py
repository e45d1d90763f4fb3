import math
from pathlib import Path

import numpy as np

from streaming_asr.calibration import made_up_speech, measure_step
from streaming_asr.decoder import Decoder, DecoderOptions
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


def test_a_network_of_more_layers_costs_more(tmp_path: Path) -> None:
    decoder = make_decoder(tmp_path)
    small, large = (
        measure_step(Network(AcousticModel(ModelConfig(num_layers=n, hidden_size=128)).eval(), "float32"), decoder)
        for n in (1, 12)
    )
    assert small.audio_seconds == large.audio_seconds == 0.06
    assert 0 < small.per_stream < 1
    assert small.fixed + small.per_stream < large.fixed + large.per_stream


def test_made_up_speech_is_words_of_the_lexicon(tmp_path: Path) -> None:
    decoder = make_decoder(tmp_path)
    speech = made_up_speech(decoder.tree, 60)
    assert np.allclose(np.exp(speech).sum(axis=1), 1.0, atol=1e-5)
    state = decoder.start()
    decoder.step(state, speech)
    assert len(decoder.finish(state)[0].words) >= 3
    assert math.isfinite(decoder.finish(state)[0].score)
