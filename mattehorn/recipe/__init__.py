"""Versioned wishes for every photo of a job, a bucket or a request: the document, the presets, the result keys."""
