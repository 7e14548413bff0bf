"""remove.bg's API v1.0 over the native path: its parameters, answers, headers and errors. Contract: section 2."""
