from streaming_asr.tokens import PHONES


def test_the_inventory_is_arpabet() -> None:
    assert len(PHONES) == len(set(PHONES)) == 39
