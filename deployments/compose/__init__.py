"""The CPU pool: decodes, finishes, encodes and stores around the matting pool."""
