"""Starts the real vLLM well and badly, one way at a time, and keeps what each process wrote as samples for tests."""
