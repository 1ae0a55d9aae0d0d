"""What a supernet knows of each space, as plain data; importing this fills the registry."""

from ssnr.supernet.layouts import darts as darts
from ssnr.supernet.layouts import nasbench201 as nasbench201
from ssnr.supernet.layouts import transnasbench101 as transnasbench101
