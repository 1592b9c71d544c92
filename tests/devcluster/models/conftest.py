import pytest

from devcluster.models import build


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    out = tmp_path_factory.mktemp("models")
    build(out)
    return out
