"""Score many architectures into a store."""

from ssnr.engine.executors import Executor as Executor
from ssnr.engine.executors import Pool as Pool
from ssnr.engine.plans import plan as plan
from ssnr.engine.runs import Row as Row
from ssnr.engine.runs import limits_of as limits_of
from ssnr.engine.runs import read as read
from ssnr.engine.runs import run as run
from ssnr.engine.runs import sweep as sweep
from ssnr.engine.runs import workers_for as workers_for
