"""The networks, their cards and how they are loaded. Importing this package loads no torch."""
