"""River alone, rows in memory, no Kafka: `memory_loop.py FILE COUNT`."""

import json
import sys
import time
from itertools import cycle, islice

import pandas as pd
from river import linear_model, preprocessing

path, count = sys.argv[1], int(sys.argv[2])
frame = pd.read_csv(path)
labels = (frame.pop("class") == 1).tolist()
rows = list(zip(frame.to_dict("records"), labels, strict=True))
model = preprocessing.StandardScaler() | linear_model.LogisticRegression()
correct = 0

began_at = time.time()
for x, y in islice(cycle(rows), count):
    correct += model.predict_one(x) == y
    model.learn_one(x, y)
ended_at = time.time()

print(json.dumps({"began_at": began_at, "ended_at": ended_at, "records": count, "accuracy": correct / count}))
