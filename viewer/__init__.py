"""The desktop application: the only code that knows Dear PyGui."""

import os

# Small products by several threads, which then spin for a while, keep the renderer from the processor.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
