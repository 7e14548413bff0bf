"""The pool of networks: one model per pool, batches across requests."""
