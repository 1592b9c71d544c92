import pytest

from devcluster.models import build


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    out = tmp_path_factory.getbasetemp() / "tiny-models"
    if not out.exists():
        build(out)
    return out
