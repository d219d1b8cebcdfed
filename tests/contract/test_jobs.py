"""The queue of retrains: single flight, claims and renewals by whoever holds the lease."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from stream_app.errors import Conflict
from stream_app.job_ports import Jobs
from stream_app.storage.jobs import SqlJobs
from stream_app.testing import InMemoryJobs
from stream_app.values import Job, JobStatus


@pytest.fixture(params=["memory", "sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def jobs(request: pytest.FixtureRequest) -> Jobs:
    if request.param == "memory":
        return InMemoryJobs()
    return SqlJobs(request.getfixturevalue(f"{request.param}_engine"))


def claim(jobs: Jobs, holder: str = "a", now: float = 1.0) -> Job:
    job = jobs.claim(holder=holder, now=now, lease_s=10)
    assert job is not None
    return job


def finish(jobs: Jobs, job: Job, holder: str = "a", status: JobStatus = JobStatus.SUCCEEDED) -> bool:
    return jobs.finish(replace(job, status=status, finished_at=5.0), holder=holder)


def test_a_second_request_returns_the_queued_one(jobs: Jobs) -> None:
    first, is_new = jobs.request("m", "volume", now=0.5)
    assert is_new
    assert (first.model, first.trigger, first.status) == ("m", "volume", JobStatus.QUEUED)
    assert (first.requested_at, first.attempts) == (0.5, 0)
    assert jobs.request("m", "manual", now=0.7) == (first, False)
    assert jobs.request("n", "manual", now=0.7)[1]


def test_one_may_queue_while_one_runs_but_not_start(jobs: Jobs) -> None:
    jobs.request("m", "volume", now=0)
    running = claim(jobs)
    second, is_new = jobs.request("m", "manual", now=2)
    assert is_new
    assert jobs.claim(holder="b", now=3, lease_s=10) is None
    assert finish(jobs, running)
    assert claim(jobs, "b", now=6).id == second.id


def test_the_oldest_is_claimed_first_and_marked(jobs: Jobs) -> None:
    jobs.request("m", "volume", now=0)
    jobs.request("n", "age", now=0)
    job = claim(jobs, now=1.5)
    assert (job.model, job.status, job.started_at, job.attempts) == ("m", JobStatus.RUNNING, 1.5, 1)
    assert claim(jobs, "b").model == "n"
    assert jobs.claim(holder="c", now=2, lease_s=10) is None


def test_a_job_whose_lease_ran_out_is_taken_up_again(jobs: Jobs) -> None:
    jobs.request("m", "volume", now=0)
    lost = claim(jobs, "a", now=1)
    again = claim(jobs, "b", now=11)
    assert (again.id, again.attempts, again.started_at) == (lost.id, 2, 1)
    assert not jobs.renew(lost.id, holder="a", now=12, lease_s=10)
    assert not finish(jobs, lost, "a")
    assert finish(jobs, again, "b")


def test_a_renewed_lease_holds(jobs: Jobs) -> None:
    jobs.request("m", "volume", now=0)
    job = claim(jobs, "a", now=1)
    assert jobs.renew(job.id, holder="a", now=10, lease_s=10)
    assert jobs.claim(holder="b", now=19, lease_s=10) is None
    assert claim(jobs, "b", now=20).id == job.id


def test_a_job_that_is_given_back_is_free_at_once(jobs: Jobs) -> None:
    jobs.request("m", "volume", now=0)
    job = claim(jobs, "a", now=1)
    assert jobs.give_back(job, holder="a", now=2)
    again = claim(jobs, "b", now=2)
    assert (again.id, again.attempts, again.started_at) == (job.id, 2, 1)


def test_whoever_gives_a_job_back_says_how_many_attempts_count(jobs: Jobs) -> None:
    jobs.request("m", "volume", now=0)
    job = claim(jobs, "a", now=1)
    assert jobs.give_back(replace(job, attempts=0), holder="a", now=2)
    assert claim(jobs, "b", now=2).attempts == 1


def test_a_job_that_is_another_trainers_cannot_be_given_back(jobs: Jobs) -> None:
    jobs.request("m", "volume", now=0)
    lost = claim(jobs, "a", now=1)
    taken = claim(jobs, "b", now=11)
    assert not jobs.give_back(replace(lost, attempts=0), holder="a", now=12)
    assert jobs.claim(holder="c", now=12, lease_s=10) is None
    assert jobs.history("m") == [taken]


def test_the_end_state_is_kept_with_its_numbers(jobs: Jobs) -> None:
    jobs.request("m", "volume", now=0)
    ended = replace(
        claim(jobs),
        status=JobStatus.REJECTED,
        finished_at=9.5,
        through_seq=57,
        version=4,
        reason="not better",
        verdict={"gain": -0.1, "rows": 100},
    )
    assert jobs.finish(ended, holder="a")
    assert jobs.history("m") == [ended]
    assert not jobs.finish(ended, holder="a")
    assert not jobs.renew(ended.id, holder="a", now=10, lease_s=10)


@pytest.mark.parametrize("status", [JobStatus.QUEUED, JobStatus.RUNNING])
def test_a_state_that_is_no_end_is_refused(jobs: Jobs, status: JobStatus) -> None:
    jobs.request("m", "volume", now=0)
    with pytest.raises(Conflict, match="expected one of cancelled, failed, rejected, succeeded"):
        finish(jobs, claim(jobs), status=status)


def test_the_history_has_the_newest_first(jobs: Jobs) -> None:
    for model in "mnmn":
        jobs.request(model, "manual", now=0)
        finish(jobs, claim(jobs))
    assert [job.model for job in jobs.history(limit=3)] == ["n", "m", "n"]
    assert [job.id for job in jobs.history("m")] == [3, 1]


def test_requests_at_once_queue_one_job(jobs: Jobs) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: jobs.request("m", "manual", now=0), range(16)))
    assert {job.id for job, _ in answers} == {jobs.history()[0].id}
    assert sum(is_new for _, is_new in answers) == 1


def test_claims_at_once_give_each_job_to_one(jobs: Jobs) -> None:
    """Queued jobs, and jobs whose leases ran out."""
    for model in "mno":
        jobs.request(model, "manual", now=0)
    for now in (1.0, 11.0):

        def take(number: int, now: float = now) -> Job | None:
            return jobs.claim(holder=f"{number} at {now}", now=now, lease_s=10)

        with ThreadPoolExecutor(8) as pool:
            claimed = [job.id for job in pool.map(take, range(8)) if job is not None]
        assert sorted(claimed) == [1, 2, 3]


def test_one_model_runs_once_under_many_requests_and_claims(jobs: Jobs) -> None:
    """The race that makes duplicate versions elsewhere: ask and claim from everywhere, all the time."""

    def work(number: int) -> int:
        jobs.request("m", "manual", now=0)
        job = jobs.claim(holder=str(number), now=1, lease_s=10)
        if job is None:
            return 0
        assert [each.id for each in jobs.history("m") if each.status == JobStatus.RUNNING] == [job.id]
        assert finish(jobs, job, str(number))
        return 1

    with ThreadPoolExecutor(8) as pool:
        done = sum(pool.map(work, range(40)))
    assert done == sum(job.status == JobStatus.SUCCEEDED for job in jobs.history("m", limit=100)) > 0


CLAIMS = """if True:
    import sys
    from dataclasses import replace
    from pathlib import Path
    from stream_app.storage.database import open_database
    from stream_app.storage.jobs import SqlJobs
    from stream_app.values import JobStatus
    jobs, holder = SqlJobs(open_database(sys.argv[1], Path(sys.argv[2]))), sys.argv[3]
    print("ready", flush=True)
    sys.stdin.readline()
    for _ in range(25):
        jobs.request("m", "manual", now=0)
        job = jobs.claim(holder=holder, now=1, lease_s=10)
        if job is not None:
            assert [each.id for each in jobs.history("m") if each.status is JobStatus.RUNNING] == [job.id]
            assert jobs.finish(replace(job, status=JobStatus.SUCCEEDED), holder=holder)
            print(job.id, flush=True)
"""


@pytest.mark.parametrize("database", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_processes_at_once_never_run_a_model_twice(
    request: pytest.FixtureRequest, tmp_path: Path, database: str
) -> None:
    """All ask, claim and finish as fast as they can, started by one barrier."""
    engine = request.getfixturevalue(f"{database}_engine")
    url = engine.url.render_as_string(hide_password=False)
    commands = [[sys.executable, "-c", CLAIMS, url, str(tmp_path), holder] for holder in "abc"]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for command in commands
    ]
    assert all(process.stdout and process.stdout.readline() == "ready\n" for process in processes)
    for process in processes:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
    done = [job for process in processes for job in process.communicate()[0].split()]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert (
        len(done) == len(set(done)) == sum(j.status is JobStatus.SUCCEEDED for j in SqlJobs(engine).history(limit=999))
    )
