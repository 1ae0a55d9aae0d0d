"""vgg: strings, networks, counts. Importing this registers the space; torch is imported by `build`."""

from ssnr.spaces.vgg import space as space
