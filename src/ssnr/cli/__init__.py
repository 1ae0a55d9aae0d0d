"""The command line."""

from ssnr.cli.app import main as main
