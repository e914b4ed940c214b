"""Proof that an engine reads a prompt as it was trained: the fixed set, token for token."""
