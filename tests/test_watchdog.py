from streaming_asr.watchdog import Watchdog


def looks(watchdog: Watchdog, times: list[float], cpu: list[float], work: int | None = 7) -> list[bool]:
    return [watchdog.is_stalled(now, work, used) for now, used in zip(times, cpu, strict=True)]


def test_who_uses_no_processor_time_stands_still() -> None:
    assert looks(Watchdog(1.0), [0, 0.25, 0.5, 0.75, 1.0, 1.25], [5.0] * 6) == [False] * 4 + [True] * 2


def test_who_is_starved_by_a_busy_machine_does_not() -> None:
    assert not any(looks(Watchdog(1.0), [i / 4 for i in range(40)], [i / 200 for i in range(40)]))


def test_who_only_waits_for_a_processor_does_not_either() -> None:
    watchdog = Watchdog(1.0)
    assert not any(watchdog.is_stalled(now / 4, 7, 5.0, is_runnable=True) for now in range(40))
    assert [watchdog.is_stalled(10 + now / 4, 7, 5.0) for now in range(4)] == [False] * 3 + [True]


def test_a_loop_without_end_is_told_by_the_processor_time_it_takes() -> None:
    assert looks(Watchdog(1.0), [0, 5, 10, 11], [0.0, 0.5, 0.9, 1.1]) == [False, False, False, True]
    slow = Watchdog(1.0)
    slow.finished(2.0)  # on this machine steps take so long
    assert looks(slow, [0, 1, 2, 39, 41], [0.0, 1, 2, 39, 41]) == [False, False, False, False, True]


def test_nobody_stands_still_who_has_nothing_in_hand_or_something_new() -> None:
    watchdog = Watchdog(1.0)
    assert not any(looks(watchdog, [0, 1, 2, 3], [5.0] * 4, work=None))
    assert not any(watchdog.is_stalled(now, now, 5.0) for now in range(10))


def test_a_process_that_was_stopped_and_goes_on_is_forgiven() -> None:
    assert looks(Watchdog(), [0, 3600, 3600.25, 3600.5], [5.0, 5.0, 5.1, 5.2]) == [False] * 4
