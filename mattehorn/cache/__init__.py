"""What was computed once is not computed again: answers kept under the hash of what they were made of."""
