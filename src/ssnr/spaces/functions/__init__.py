"""Spaces of a user's own: a function that builds a network."""

from ssnr.spaces.functions.making import space as space
from ssnr.spaces.functions.space import FunctionSpace as FunctionSpace
from ssnr.spaces.functions.trial import Trial as Trial
