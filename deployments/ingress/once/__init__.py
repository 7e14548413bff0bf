"""The same request is answered once: kept answers, equal requests in flight, idempotency keys."""
