"""Quix Streams as its manual shows it, in its own environment: `quix.py BOOTSTRAP TOPIC COUNT`."""

import json
import sys
import tempfile
import time
import uuid

from quixstreams import Application
from river import linear_model, preprocessing

bootstrap, topic, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
app = Application(
    broker_address=bootstrap,
    consumer_group=f"quix-{uuid.uuid4().hex}",
    auto_offset_reset="earliest",
    auto_create_topics=False,
    state_dir=tempfile.mkdtemp(),
    loglevel="WARNING",
)
model = preprocessing.StandardScaler() | linear_model.LogisticRegression()
began_at, ended_at, correct = 0.0, 0.0, 0


def learn(record: dict) -> None:
    global began_at, ended_at, correct  # noqa: PLW0603 - how the framework's own examples keep a model
    began_at = began_at or time.time()
    x, y = record["features"], record["label"] == 1
    correct += model.predict_one(x) == y
    model.learn_one(x, y)
    ended_at = time.time()


app.dataframe(app.topic(topic, value_deserializer="json")).update(learn)
app.run(count=count, collect=False)

print(json.dumps({"began_at": began_at, "ended_at": ended_at, "records": count, "accuracy": correct / count}))
