"""Speed and memory, never part of the tests. Ratios within one run; absolute times belong to one machine."""
