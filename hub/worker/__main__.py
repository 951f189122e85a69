"""`python -m hub.worker`: a worker for the hub in VERA_HUB_URL, with the token in VERA_HUB_TOKEN.

VERA_HUB_SUITES and VERA_HUB_DATASETS are what `--suite` and `--datasets` are to `vera-hub worker`.
"""

import os
import sys
from pathlib import Path

from hub.worker.starting import main
from vera.ending import end_at_once
from vera.errors import VeraError

if __name__ == "__main__":
    end_at_once()
    suites = [name for name in os.environ.get("VERA_HUB_SUITES", "").split(os.pathsep) if name]
    datasets = os.environ.get("VERA_HUB_DATASETS")
    try:
        sys.exit(main(suite_names=suites, datasets=Path(datasets) if datasets else None))
    except VeraError as error:
        sys.exit(str(error))
