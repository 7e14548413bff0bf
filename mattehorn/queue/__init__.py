"""The queues of bulk work behind one interface: an embedded SQLite file, or SQS."""
