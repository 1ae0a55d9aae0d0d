"""One page of a sweep that a colleague can open: tables and plots in a file of its own."""

from ssnr.reports.page import report as report
