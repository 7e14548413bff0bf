"""Bulk work: every photo that an event or a job names becomes one result under a key that follows from the photo.

The core is item.py (one photo), worker.py (one message) and consumer.py (the loop around the queue); jobs.py holds what
a job is. All state is objects in the store and messages in the queue. What it is not: no Ray, no HTTP server; the
deployment injects the service's `cut_out`, and tests a fake one.
"""
