"""Search spaces: importing this package fills the registry; torch is imported only by `build`."""

from ssnr.core.results import Counts as Counts
from ssnr.spaces import darts as darts
from ssnr.spaces import functions as functions
from ssnr.spaces import nasbench101 as nasbench101
from ssnr.spaces import nasbench201 as nasbench201
from ssnr.spaces import transnasbench101 as transnasbench101
from ssnr.spaces import vgg as vgg
from ssnr.spaces.base import SPACES as SPACES
from ssnr.spaces.base import Space as Space
from ssnr.spaces.base import register_space as register_space
from ssnr.spaces.finding import get_space as get_space
