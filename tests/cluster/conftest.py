from collections.abc import Iterator
from uuid import uuid4

import pytest

from tests.clusters import serving


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A local S3 server."""
    pytest.importorskip("moto", reason="moto, whose server stands for S3, is not installed")
    with serving() as (_, url):
        yield url


@pytest.fixture
def s3(server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """What commands and their workers know of the server."""
    s3fs = pytest.importorskip("s3fs", reason="s3fs is not installed")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "me")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "mine")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # a server on this machine is there, or it is not
    s3fs.S3FileSystem.clear_instance_cache()
    return server


@pytest.fixture
def bucket(s3: str) -> str:
    """A folder of run folders in a bucket of its own."""
    from s3fs import S3FileSystem

    name = uuid4().hex
    S3FileSystem(skip_instance_cache=True).mkdir(name)
    return f"s3://{name}/runs"
