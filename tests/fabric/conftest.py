import sys

import pytest

TOOLS = ("ib_write_bw", "ib_write_lat", "ibv_devinfo", "show_gids")


@pytest.fixture(scope="session")
def tools_directory(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tools")
    for tool in TOOLS:
        script = folder / tool
        script.write_text(f'#!/bin/sh\nexec {sys.executable} -m devcluster.standins.{tool} "$@"\n')
        script.chmod(0o755)
    return folder
