from pathlib import Path

from benchmarks.compute import play_in_process
from benchmarks.engines import PocketSphinx
from benchmarks.replay import Clip, in_blocks
from streaming_asr.recordings import read_samples

DEMO = Path(__file__).parents[2] / "examples" / "demo.wav"


def test_pocketsphinx_is_played_like_ours() -> None:
    samples = read_samples(DEMO)
    played = play_in_process(PocketSphinx(), Clip("demo", samples))
    *partials, final = played.timeline.shown
    assert final.kind == "final"
    assert len(final.words) > 5
    assert partials
    assert {shown.kind for shown in partials} == {"partial"}
    assert len(played.block_costs) == len(in_blocks(samples, 16000))
