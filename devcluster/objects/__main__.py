"""Build the S3 server of the tests, once for its version."""

from devcluster.objects.gateway import program

print(program())
