"""Words and numbers: errors, registries, moments, aggregates, recipes, the catalogue, results. No torch."""
