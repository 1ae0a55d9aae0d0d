"""nasbench201: strings, networks, counts. Importing this registers the space; torch is imported by `build`."""

from ssnr.spaces.nasbench201 import space as space
