"""What all ingress replicas share: budgets spent, and who is at work on what."""
