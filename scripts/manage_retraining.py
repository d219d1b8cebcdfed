#!/usr/bin/env python3
"""Manage automatic retraining: start, stop, status, history, trigger, config.

The same as `stream-app retraining …`, under the name and with the options that other systems' users know:
`start --iris-data FILE --housing-data FILE` stands for `--set models.iris.data=FILE`, and so on for any model.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def translated(arguments: list[str]) -> list[str]:
    """Return the arguments with `--NAME-data FILE` spelled as a setting."""
    spelled, rest = [], list(arguments)
    while rest:
        word = rest.pop(0)
        option, _, value = word.partition("=")
        data = re.fullmatch(r"--([a-z0-9._-]+)-data", option)
        if data is None:
            spelled.append(word)
        elif value or rest:
            spelled += ["--set", f"models.{data[1]}.data={value or rest.pop(0)}"]
        else:
            sys.exit(f"{option}: expected a file behind it")
    return spelled


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    from stream_app.cli import main

    main(["retraining", *translated(sys.argv[1:])])
