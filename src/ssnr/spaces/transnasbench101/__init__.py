"""transnasbench101: strings, networks, counts. Importing this registers the space; torch is imported by `build`."""

from ssnr.spaces.transnasbench101 import space as space
