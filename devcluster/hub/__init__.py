"""A model hub on one machine: the Hugging Face protocol as far as downloads need it, with faults on request."""
