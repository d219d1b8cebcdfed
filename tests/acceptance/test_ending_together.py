"""`stream-app up` and what it started end together, however it ends; and it says what it starts again."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stream_app import leaving
from stream_app.kafka.embedded import EmbeddedBroker
from tests.integration.pipeline import ROOT, Pipeline, Running, settings_text

#: Prints the id of the child that it starts, and waits.
PARENT = """
import os, subprocess, sys
print(subprocess.Popen([sys.executable, "-c", sys.argv[1], str(os.getpid())]).pid, flush=True)
sys.stdin.read()
"""
CHILD = """
import signal, sys, time
from stream_app import leaving
{before}
leaving.end_with(int(sys.argv[1]), signal.SIGTERM)
print("ready", flush=True)
time.sleep(300)
"""
WAYS = {"kernel": "pass", "looking": "leaving._ask_kernel, leaving._LOOK_EVERY_S = (lambda _: False), 0.05"}


def is_alive(process: int) -> bool:
    try:
        return ") Z" not in Path(f"/proc/{process}/stat").read_text()
    except FileNotFoundError:
        return False


def hears_sighup(process: int) -> bool:
    """Return whether the process has a handler for it: Python itself was starting until then."""
    caught = re.search(r"^SigCgt:\s*(\w+)$", Path(f"/proc/{process}/status").read_text(), re.MULTILINE)
    return caught is not None and bool(int(caught[1], 16) & 1)


def children(process: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def lines(running: Running) -> list[dict[str, object]]:
    whole, _, _ = running.log.read_text().rpartition("\n")  # the last line may still be under way
    return [json.loads(line) for line in whole.splitlines() if line.startswith("{")]


def said(running: Running, *events: str) -> bool:
    return set(events) <= {str(line["event"]) for line in lines(running)}


@pytest.mark.usefixtures("with_terminal")
@pytest.mark.parametrize("how", [signal.SIGHUP, signal.SIGKILL])
def test_worker_trainer_and_server_end_with_up(
    tmp_path: Path, how: signal.Signals, wait_until: Callable[..., None]
) -> None:
    (tmp_path / "stream_app.toml").write_text(settings_text(tmp_path / "state"))
    with Pipeline(tmp_path, "").running("up") as up:
        wait_until(lambda: said(up, "partitions assigned", "trainer started", "server started"), 180)
        started = children(up.process.pid)
        assert len(started) == 3
        try:
            up.process.send_signal(how)
            assert up.ended() == (0 if how is signal.SIGHUP else -how)
            wait_until(lambda: not any(map(is_alive, started)), 60)
        finally:
            for process in filter(is_alive, started):  # seen when the test fails
                sys.stderr.write(f"{process} lives: {up.log.read_text()[-3_000:]}")
                os.kill(process, signal.SIGKILL)


@pytest.fixture
def with_terminal() -> Iterator[None]:
    """Let what a test starts hear of its terminal, also where the tests themselves run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


STARTED = {"worker": "partitions assigned", "trainer": "trainer started", "serve": "server started"}


@pytest.mark.usefixtures("with_terminal")
@pytest.mark.parametrize("command", STARTED)
@pytest.mark.parametrize("moment", ["starting", "running"])
def test_a_service_whose_terminal_closes_leaves_with_0(
    tmp_path: Path, command: str, moment: str, wait_until: Callable[..., None]
) -> None:
    (tmp_path / "stream_app.toml").write_text(settings_text(tmp_path / "state"))
    with EmbeddedBroker() as broker, Pipeline(tmp_path, broker.bootstrap_servers).running(command) as service:
        running = STARTED[command]
        wait_until(lambda: said(service, running) if moment == "running" else hears_sighup(service.process.pid), 180)
        service.process.send_signal(signal.SIGHUP)
        assert service.process.wait(60) == 0
        assert "Traceback" not in service.log.read_text()


def test_up_says_what_it_starts_again_and_what_it_gives_up(tmp_path: Path, wait_until: Callable[..., None]) -> None:
    settings = tmp_path / "stream_app.toml"
    settings.write_text(settings_text(tmp_path / "state"))
    with Pipeline(tmp_path, "").running("up") as up:
        wait_until(lambda: said(up, "worker started", "trainer started", "server started"), 180)
        settings.write_text("nonsense = 1")
        os.kill(children(up.process.pid)[0], signal.SIGKILL)
        assert up.ended() == 78
    (again,) = [line for line in lines(up) if line["event"] == "a process ended and is started again"]
    assert (again["child"], again["exit_code"], again["restart"], again["pause_s"]) == ("worker", -9, 1, 0.2)
    (given_up,) = [line for line in lines(up) if str(line["event"]).startswith("a process ended and is given up")]
    assert (given_up["child"], given_up["exit_code"]) == ("worker", 78)


@pytest.mark.parametrize("way", WAYS)
def test_a_process_ends_with_the_one_that_started_it(way: str, wait_until: Callable[..., None]) -> None:
    code = [sys.executable, "-c", PARENT, CHILD.format(before=WAYS[way])]
    with subprocess.Popen(code, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert parent.stdout.readline() == "ready\n"
        assert is_alive(child)
        parent.kill()
    wait_until(lambda: not is_alive(child), 20)


@pytest.mark.parametrize("way", WAYS)
def test_a_process_whose_parent_is_dead_already_ends_at_once(way: str) -> None:
    code = [sys.executable, "-c", CHILD.format(before=WAYS[way]), "1"]
    done = subprocess.run(code, cwd=ROOT, capture_output=True, timeout=240, check=False)
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, b"")


def test_a_terminal_that_closes_is_a_signal_to_end_but_not_under_nohup() -> None:
    before = signal.getsignal(signal.SIGHUP)
    try:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        assert set(leaving.asking()) == {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        assert set(leaving.asking()) == {signal.SIGTERM, signal.SIGINT}
    finally:
        signal.signal(signal.SIGHUP, before)
