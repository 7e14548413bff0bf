"""The HTTP side of bulk work: jobs, their uploads and progress, and the stores' notifications."""
