"""Benchmarks: measured accuracies of architectures. Importing this imports neither torch nor pandas."""

from ssnr.benchmarks.catalogue import CATALOGUE as CATALOGUE
from ssnr.benchmarks.catalogue import Benchmark as Benchmark
from ssnr.benchmarks.catalogue import Row as Row
from ssnr.benchmarks.catalogue import fetch as fetch
from ssnr.benchmarks.catalogue import listing as listing
from ssnr.benchmarks.catalogue import load as load
from ssnr.benchmarks.catalogue import names as names
from ssnr.benchmarks.catalogue import published as published
from ssnr.benchmarks.catalogue import sources_of as sources_of
from ssnr.benchmarks.sources import FILES as FILES
from ssnr.benchmarks.sources import DataFile as DataFile
from ssnr.benchmarks.sources import locate as locate

load_benchmark = load  # its name in `ssnr`, where `load` alone would say too little
