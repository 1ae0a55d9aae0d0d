"""darts: strings, networks, counts. Importing this registers the space; torch is imported by `build`."""

from ssnr.spaces.darts import space as space
