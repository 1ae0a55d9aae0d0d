"""Published files → checked tables."""
