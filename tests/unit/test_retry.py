"""When a failed job is tried again."""

from jobs.retry import LONGEST_DELAY, delay_seconds


def test_the_first_retry_comes_at_once() -> None:
    assert delay_seconds(1) == 0


def test_later_retries_wait_twice_as_long_each_time_and_are_spread() -> None:
    for failures, shortest in [(2, 5.0), (3, 10.0), (4, 20.0)]:
        delays = [delay_seconds(failures) for _ in range(50)]
        assert min(delays) >= shortest
        assert max(delays) <= shortest * 1.25
        assert len(set(delays)) > 1


def test_jobs_that_failed_together_are_spread_over_a_quarter_of_the_delay() -> None:
    delays = [delay_seconds(3) for _ in range(400)]
    assert min(delays) < 10.0 * 1.02
    assert max(delays) > 10.0 * 1.23


def test_no_delay_grows_without_end() -> None:
    assert delay_seconds(1000) <= LONGEST_DELAY * 1.25
