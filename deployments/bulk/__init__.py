"""The bulk replica: takes messages from the queue and photos through the compose pool. No HTTP, no pixels."""
