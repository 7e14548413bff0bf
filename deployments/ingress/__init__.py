"""HTTP: contracts, limits, admission. No pixels here."""
