"""Score one network: the passes that its proxies need, each once, and the numbers that follow.

`public` has what users call, `measuring` what a store keeps, `families` the table of who shares passes with whom.
"""

from ssnr.scoring.measuring import measure as measure
from ssnr.scoring.public import saliency as saliency
from ssnr.scoring.public import score as score
from ssnr.scoring.signals import signal_of as signal_of
