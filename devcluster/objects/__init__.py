"""A real S3 server on the loopback interface: versitygw over a directory, built from its Go module."""
