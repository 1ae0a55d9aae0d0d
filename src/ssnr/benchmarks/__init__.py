"""Benchmarks: measured accuracies of architectures. Importing this imports neither torch nor pandas."""

from ssnr.benchmarks.catalogue import Benchmark as Benchmark
from ssnr.benchmarks.catalogue import fetch as fetch
from ssnr.benchmarks.catalogue import listing as listing
from ssnr.benchmarks.catalogue import load as load
from ssnr.benchmarks.catalogue import names as names
from ssnr.benchmarks.catalogue import published as published
from ssnr.benchmarks.catalogue import published_listing as published_listing
from ssnr.benchmarks.catalogue import sources_of as sources_of
from ssnr.benchmarks.facts import Facts as Facts
from ssnr.benchmarks.files import FILES as FILES
from ssnr.benchmarks.files import DataFile as DataFile
from ssnr.benchmarks.files import locate as locate
from ssnr.benchmarks.readers.converted import convert as convert
from ssnr.benchmarks.readers.official import KINDS as KINDS
from ssnr.benchmarks.rows import CATALOGUE as CATALOGUE
from ssnr.benchmarks.rows import Source as Source

load_benchmark = load  # its name in `ssnr`, where `load` alone would say too little
