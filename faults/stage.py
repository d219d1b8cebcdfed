"""A place to run workers in: topics of its own, a settings file, a storage folder, and a look at how far they are."""

import json
import sqlite3
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from confluent_kafka.admin import AdminClient

from faults.evidence import Scene, gather
from faults.fleet import ROOT, wait_until
from faults.verify import Verdict, verify
from faults.workload import MODEL, Sender, Workload
from stream_app import configuration
from stream_app.errors import NotFound, Outage
from stream_app.kafka import topics

PARTITIONS: Final = 4
#: Names that live on three different partitions of four.
MODELS: Final = ("alpha", "iris", "gamma")
#: The shortest that a broker allows by default.
SESSION_S: Final = 6.0
#: Seconds that readiness may take once the faults have stopped (I8), with the session timeout of dead members.
RECOVERED_S: Final = 30.0
LEADERS_WITHIN_S: Final = 15.0
#: How often the epochs are looked at.
OBSERVE_S: Final = 0.1

_SETTINGS: Final = """\
[kafka]
bootstrap_servers = "{bootstrap}"
group_id = "{name}"
session_timeout_s = {session_s}
request_timeout_s = 15
max_message_bytes = 64000
[kafka.topics]
ground_truth = "{name}"
model_updated = "{name}-updated"
learning_events = "{name}-events"
partitions = {partitions}
[kafka.ingest]
"{name}-ingest" = "{first}"
[storage]
root = "{root}"
url = "sqlite:///{root}/faults.db"
[http]
worker_port = 0
trainer_port = 0
[log]
format = "json"
"""
#: Small windows and frequent checkpoints, so that a short run passes every point; the first model's windows are
#: files, the others' travel in the transaction.
_WINDOWS: Final = """\
[models.{name}.window]
max_rows = 200
max_age_s = 0.1
progress_s = 1
checkpoint_windows = 4
inline_bytes = {inline_bytes}
[models.{name}.publish]
every_s = 0.5
[models.{name}.retrain]
{retrain}
"""


@dataclass(kw_only=True)
class Stage:
    """Topics, settings and storage of one run."""

    bootstrap: str
    folder: Path
    seed: int
    #: lines of each model's retrain section
    retrain: str = "enabled = false"
    name: str = field(default_factory=lambda: f"faults-{uuid.uuid4().hex[:8]}")
    observations: list[tuple[str, int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Write the settings and create the topics."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.config.write_text(self._settings())
        self.declare()

    def declare(self) -> None:
        """Create the topics that are missing, and wait until they can be written."""
        settings = configuration.load(self.config, {}).kafka
        topics.declare(settings)
        if not wait_until(lambda: _has_leaders(self.admin, settings.topic_names), LEADERS_WITHIN_S):
            raise Outage(f"the topics were created, but had no leaders for {LEADERS_WITHIN_S:g} s")

    @property
    def config(self) -> Path:
        """The settings file."""
        return self.folder / "stream_app.toml"

    @cached_property
    def admin(self) -> AdminClient:
        """An admin client."""
        return AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})

    @property
    def ingest(self) -> Mapping[str, str]:
        """The ingest topics and the models that they feed."""
        return {f"{self.name}-ingest": MODELS[0]}

    @property
    def scene(self) -> Scene:
        """Where the verifier looks."""
        root = self.folder / "storage"
        return Scene(
            bootstrap=self.bootstrap,
            ground_truth=self.name,
            ingest=self.ingest,
            model_updated=f"{self.name}-updated",
            dead_letter_suffix=".dlq",
            database=str(root / "faults.db"),
            root=root,
            artifacts=root / "artifacts",
        )

    def workload(self) -> Workload:
        """Return the seeded stream of messages."""
        return Workload(MODELS, self.ingest, PARTITIONS, self.seed)

    def sender(self) -> Sender:
        """Return a producer onto this stage."""
        return Sender(self.bootstrap, self.name)

    def progress(self) -> Mapping[str, tuple[int, int]]:
        """Return (epoch, seq) of each model that exists."""
        found = self._query("SELECT name, epoch, seq FROM models")
        return {row[0]: (row[1], row[2]) for row in found}

    def jobs(self, condition: str) -> Sequence[Any]:
        """Return (id, model, status, attempts, version) of the retrain jobs that the condition chooses."""
        return self._query(f"SELECT id, model, status, attempts, version FROM jobs WHERE {condition}")  # noqa: S608 - our own

    def is_writable(self) -> bool:
        """Tell whether the database can be written: a process that sleeps in a transaction keeps all others out."""
        try:
            with closing(sqlite3.connect(self.scene.database, timeout=2, isolation_level=None)) as connection:
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("ROLLBACK")
        except sqlite3.OperationalError:
            return False
        return True

    def is_drained(self) -> bool:
        """Tell whether everything in the topics has been taken in, and all effects are stored."""
        reached = {
            (t, p): at for t, p, at in self._query("SELECT topic, partition, next_offset FROM partition_positions")
        }
        ends = {place: end for place, end in self.ends().items() if end > 0}
        homes = self._query("SELECT topic, partition, next_offset FROM positions")
        models = self._query("SELECT effects_seq, seq FROM models")
        return (
            len(homes) == len(models) == len(MODELS)
            and all(reached.get(place, 0) >= end for place, end in ends.items())
            and all(at >= ends.get((topic, partition), 0) for topic, partition, at in homes)
            and all(effects == seq for effects, seq in models)
        )

    def ends(self) -> Mapping[tuple[str, int], int]:
        """Return the end of each partition of the input topics."""
        return topics.end_offsets(self.admin, [self.name, *self.ingest])

    @contextmanager
    def observing(self) -> Iterator[None]:
        """Write down epochs and seqs, as anybody can see them, for as long as the context lasts."""
        over = threading.Event()
        thread = threading.Thread(target=self._observe, args=(over,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _observe(self, over: threading.Event) -> None:
        seen: dict[str, int] = {}
        while not over.wait(OBSERVE_S):
            for model, (epoch, seq) in self.progress().items():
                if seen.get(model, 0) < epoch:
                    seen[model] = epoch
                    self.observations.append((model, epoch, seq))

    def verdict(self) -> Verdict:
        """Verify from outside, then let every model prove I3 and I4 by folding its log anew."""
        verdict = verify(gather(self.scene, self.observations))
        for model in MODELS:
            proof = self.command("log", "verify", model, "--json")
            told = _json(proof.stdout)
            if proof.returncode or not told.get("ok"):
                said = (proof.stderr or proof.stdout)[-500:]
                verdict.problems.append(f"I3: `log verify {model}` ended with {proof.returncode}: {said}")
        return verdict

    def replay(self, corrections: Path) -> int:
        """Send corrected dead letters back; return how many were sent."""
        done = self.command("dlq", "replay", "--topic", self.name, "--file", str(corrections), "--json")
        return int(_json(done.stdout).get("sent", 0))

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of stream-app on this stage."""
        return subprocess.run(  # noqa: S603 - our own command
            [sys.executable, "-m", "stream_app", *arguments, "--config", str(self.config)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def _settings(self) -> str:
        head = _SETTINGS.format(
            bootstrap=self.bootstrap,
            name=self.name,
            session_s=SESSION_S,
            partitions=PARTITIONS,
            first=MODELS[0],
            root=self.folder / "storage",
        )
        return head + "".join(self._model(name) for name in MODELS)

    def _model(self, name: str) -> str:
        inline_bytes = 0 if name == MODELS[0] else 65_536
        sections = MODEL + _WINDOWS
        return f"[models.{name}]\n" + sections.format(name=name, inline_bytes=inline_bytes, retrain=self.retrain)

    def _query(self, query: str) -> Sequence[Any]:
        database = Path(self.scene.database)
        if not database.exists():
            return []
        try:
            with closing(sqlite3.connect(database, timeout=10)) as connection:
                return connection.execute(query).fetchall()
        except sqlite3.OperationalError:  # its tables are being made
            return []


def steady(stage: Stage, per_second: float, seconds: float, *, meanwhile: Callable[[], object]) -> int:
    """Send the stage's workload at a steady rate; return how many messages were sent."""
    workload, sender = stage.workload(), stage.sender()
    start, sent = time.monotonic(), 0
    while (passed := time.monotonic() - start) < seconds:
        due = int(passed * per_second) - sent
        sender.send([workload.next() for _ in range(due)])
        sent += due
        meanwhile()
        time.sleep(0.05)
    sender.flush()
    return sent


def _has_leaders(admin: AdminClient, names: Sequence[str]) -> bool:
    try:
        topics.end_offsets(admin, names)
    except (NotFound, Outage):
        return False
    return True


def _json(text: str) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
