"""Rows of states: each holder's own, found again after others came and went."""

import torch

from streaming_asr.model import AcousticModel, ModelConfig, ModelState
from streaming_asr.slots import FIRST_SLOTS, StateSlots

MODEL = AcousticModel(ModelConfig(num_layers=2, hidden_size=3))


def filled(value: float, batch: int = 1) -> ModelState:
    return ModelState(*(torch.full_like(part, value) for part in MODEL.initial_state(batch)))


def test_a_slot_begins_as_the_network_does_and_keeps_what_is_written_while_others_come() -> None:
    states = StateSlots(MODEL.initial_state)
    held = [states.take() for _ in range(3 * FIRST_SLOTS)]
    assert len({slot.row for slot in held}) == states.num_taken == 3 * FIRST_SLOTS
    for number, slot in enumerate(held):
        assert not any(part.any() for part in states.read(states.rows([slot])))
        states.write(states.rows([slot]), filled(float(number + 1)))
    more = [states.take() for _ in range(2 * FIRST_SLOTS)]
    assert states.num_taken == len(held) + len(more)
    together = states.read(states.rows([held[20], held[4]]))
    assert together.hidden[:, :, 0].tolist() == [[21, 5], [21, 5]]
    assert together.context[:, 0, 0].tolist() == [21, 5]


def test_a_slot_that_nobody_holds_any_more_is_given_to_the_next_as_new() -> None:
    states = StateSlots(MODEL.initial_state)
    first, second = states.take(), states.take()
    states.write(states.rows([first, second]), filled(7, 2))
    row = first.row
    del first
    assert states.num_taken == 1
    third = states.take()
    assert third.row == row
    assert not states.read(states.rows([third])).cell.any()
    assert states.read(states.rows([second])).cell.all()
