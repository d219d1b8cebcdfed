"""Retrains that were requested with samples: what they wait for, and their lines in the retraining logs."""

from dataclasses import replace

import pytest

from stream_app.job_ports import Jobs, Samples, Switches
from stream_app.storage.jobs import SqlJobs
from stream_app.storage.switches import SqlSwitches
from stream_app.testing import InMemoryJobs, InMemorySwitches
from stream_app.values import Job, JobStatus, Partition

KINDS = ["memory", "sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]
FIRST = Partition(incarnation="i/+", topic="ground-truth", number=3)
OTHER = replace(FIRST, number=1)


@pytest.fixture(params=KINDS)
def jobs(request: pytest.FixtureRequest) -> Jobs:
    return InMemoryJobs() if request.param == "memory" else SqlJobs(request.getfixturevalue(f"{request.param}_engine"))


@pytest.fixture(params=KINDS)
def switches(request: pytest.FixtureRequest) -> Switches:
    if request.param == "memory":
        return InMemorySwitches()
    return SqlSwitches(request.getfixturevalue(f"{request.param}_engine"))


def samples(count: int, **ends: int) -> Samples:
    places = {"first": FIRST, "other": OTHER}
    return Samples(count=count, file=f"{count}.json", end={places[name]: end for name, end in ends.items()})


def end(jobs: Jobs, status: JobStatus, reason: str) -> Job:
    job = jobs.claim(holder="a", now=7.0, lease_s=10)
    assert job is not None
    ended = replace(job, status=status, reason=reason, finished_at=8.0)
    assert jobs.finish(ended, holder="a", output="fitting\n")
    return ended


def test_a_job_keeps_what_it_waits_for(jobs: Jobs) -> None:
    job, _ = jobs.request("m", "manual", now=1.0, samples=samples(2, first=10))

    assert job.after == {FIRST: 10}
    assert jobs.history("m")[0].after == {FIRST: 10}


def test_more_samples_join_the_queued_job_and_never_shorten_its_wait(jobs: Jobs) -> None:
    jobs.request("m", "volume", now=0.0)
    jobs.request("m", "manual", now=1.0, samples=samples(2, first=10))
    job, is_new = jobs.request("m", "manual", now=2.0, samples=samples(3, first=7, other=4))

    assert not is_new
    assert (job.trigger, job.after) == ("volume", {FIRST: 10, OTHER: 4})
    assert jobs.request("m", "manual", now=3.0)[0].after == job.after


def test_samples_that_come_while_it_runs_are_the_next_jobs(jobs: Jobs) -> None:
    jobs.request("m", "manual", now=0.0, samples=samples(1, first=5))
    assert jobs.claim(holder="a", now=1.0, lease_s=10) is not None

    job, is_new = jobs.request("m", "manual", now=2.0, samples=samples(1, first=6))

    assert is_new
    assert job.after == {FIRST: 6}


def test_a_job_that_is_not_ready_is_passed_over(jobs: Jobs) -> None:
    jobs.request("m", "manual", now=0.0, samples=samples(1, first=5))
    jobs.request("n", "manual", now=0.0)

    job = jobs.claim(holder="a", now=1.0, lease_s=10, is_ready=lambda job: not job.after)

    assert job is not None
    assert job.model == "n"
    assert jobs.claim(holder="b", now=1.0, lease_s=10, is_ready=lambda job: not job.after) is None
    assert jobs.claim(holder="b", now=1.0, lease_s=10) is not None


def test_each_request_with_samples_has_a_line_that_ends_with_the_job(jobs: Jobs) -> None:
    jobs.request("m", "manual", now=0.5, samples=samples(2, first=10))
    jobs.request("m", "manual", now=1.0, samples=samples(3, first=12))
    started = jobs.lines()

    end(jobs, JobStatus.REJECTED, "no gain")
    lines = jobs.lines()

    assert [(line.sample_count, line.training_file, line.status, line.stdout) for line in started] == [
        (3, "3.json", "STARTED", None),
        (2, "2.json", "STARTED", None),
    ]
    assert [(line.status, line.stdout, line.stderr) for line in lines] == [
        ("COMPLETED", "fitting\nrejected: no gain\n", None)
    ] * 2
    assert [line.timestamp for line in lines] == ["1970-01-01T00:00:01", "1970-01-01T00:00:00.500000"]


def test_a_retrain_that_a_trigger_asked_for_has_a_line_too(jobs: Jobs) -> None:
    jobs.request("m", "volume", now=0.0)
    assert jobs.lines() == []

    end(jobs, JobStatus.FAILED, "it took too long")

    [line] = jobs.lines()
    assert (line.sample_count, line.training_file) == (None, None)
    assert (line.status, line.stdout, line.stderr) == ("FAILED", "fitting\n", "it took too long")


def test_a_job_that_is_taken_up_again_keeps_its_line(jobs: Jobs) -> None:
    jobs.request("m", "volume", now=0.0)
    jobs.claim(holder="dead", now=1.0, lease_s=2)

    end(jobs, JobStatus.SUCCEEDED, "better")

    assert [line.status for line in jobs.lines()] == ["COMPLETED"]


def test_the_newest_lines_come_first_and_only_so_many(jobs: Jobs) -> None:
    for count in range(1, 5):
        jobs.request("m", "manual", now=0.0, samples=samples(count))

    assert [line.sample_count for line in jobs.lines(limit=2)] == [4, 3]


def test_a_switch_is_on_until_somebody_turns_it_off(switches: Switches) -> None:
    assert switches.is_on("retraining")
    switches.turn("retraining", on=False, by="me", now=1.0)
    switches.turn("retraining", on=False, by="you", now=2.0)
    assert not switches.is_on("retraining")
    assert switches.is_on("another")
    switches.turn("retraining", on=True, by="me", now=3.0)
    assert switches.is_on("retraining")
