"""Faust as its manual shows it: an agent over batches: `plain_faust.py BOOTSTRAP TOPIC COUNT`."""

import json
import os
import signal
import sys
import time
import uuid

import faust
from river import linear_model, preprocessing

bootstrap, topic_name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
app = faust.App(
    f"plain-faust-{uuid.uuid4().hex}", broker=f"kafka://{bootstrap}", store="memory://", topic_disable_leader=True,
    topic_allow_declare=False, web_enabled=False, worker_redirect_stdouts=False,
)  # fmt: skip
topic = app.topic(topic_name, key_type=bytes, value_serializer="json")
model = preprocessing.StandardScaler() | linear_model.LogisticRegression()


@app.agent(topic)
async def learn(records: faust.Stream) -> None:
    seen, correct, began_at = 0, 0, 0.0
    async for batch in records.take(1000, within=0.25):
        began_at = began_at or time.time()
        for record in batch:
            x, y = record["features"], record["label"] == 1
            correct += model.predict_one(x) == y
            model.learn_one(x, y)
        seen += len(batch)
        if seen >= count:
            result = {"began_at": began_at, "ended_at": time.time(), "records": seen, "accuracy": correct / seen}
            print(json.dumps(result), flush=True)
            os.kill(os.getpid(), signal.SIGTERM)


faust.Worker(app, loglevel="warn", quiet=True).execute_from_commandline()
