"""`python -m hub.worker`: a worker for the hub in VERA_HUB_URL, with the token in VERA_HUB_TOKEN."""

import sys

from hub.worker.main import main

if __name__ == "__main__":
    sys.exit(main())
