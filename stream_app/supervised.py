"""A command that ends with the process that starts it: `python -m stream_app.supervised PARENT_PID COMMAND …`."""

import signal
import sys

from stream_app.cli import main
from stream_app.leaving import end_with

if __name__ == "__main__":
    # SIGTERM, not SIGKILL: whoever is left alone has windows to commit
    end_with(int(sys.argv[1]), signal.SIGTERM)
    main(sys.argv[2:])
