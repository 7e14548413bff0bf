"""Load tests: `python -m loadtests` drives a running service, `python -m loadtests.stages` times the library alone."""
