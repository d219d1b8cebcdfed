"""The loop one writes by hand; durable is only Kafka's auto commit: `handwritten.py BOOTSTRAP TOPIC COUNT`."""

import json
import sys
import time
import uuid

import orjson
from confluent_kafka import Consumer, KafkaException
from river import linear_model, preprocessing

bootstrap, topic, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
group = f"handwritten-{uuid.uuid4().hex}"
consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group, "auto.offset.reset": "earliest"})
consumer.subscribe([topic])
model = preprocessing.StandardScaler() | linear_model.LogisticRegression()
seen, correct, began_at = 0, 0, 0.0

while seen < count:
    batch = consumer.consume(1000, timeout=1.0)
    if batch and not began_at:
        began_at = time.time()
    for message in batch:
        if message.error():
            raise KafkaException(message.error())
        record = orjson.loads(message.value())
        x, y = record["features"], record["label"] == 1
        correct += model.predict_one(x) == y
        model.learn_one(x, y)
    seen += len(batch)
ended_at = time.time()
consumer.close()

print(json.dumps({"began_at": began_at, "ended_at": ended_at, "records": seen, "accuracy": correct / seen}))
