"""What the process that workers are forked from imports, so that each of them starts with it."""

import gc

import ssnr.scoring
import ssnr.supernet.supernet  # noqa: F401 - for the workers

# Once for all workers; see `process.freeze_gc`.
gc.collect()
gc.freeze()
