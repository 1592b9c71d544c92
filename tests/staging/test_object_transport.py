"""Stagings from directories and from S3; the server is versitygw, which speaks the protocol and checks signatures."""

from __future__ import annotations

import json
import shutil
import time

import pytest

from devcluster.objects import gateway
from llm_rollout.adapters.sources import Sources
from llm_rollout.errors import Permanent, Transient
from llm_rollout.staging import manifest, object_source, staging
from llm_rollout.staging.listing import DEFAULT_EXCLUDE, MANIFEST, Digest, File
from llm_rollout.staging.object_transport import ObjectTransport
from llm_rollout.staging.store import Store
from tests.staging import gcs
from tests.staging.relay import Relay

REPO = "acme/small"
SHARD = "model-00002-of-00002.safetensors"
SHARD_BYTES = 400_000
IN_S3 = pytest.mark.devcluster
"""As the devcluster, the S3 server is built from Go modules."""


def tree(folder):
    kept = (path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in kept}
    return {name: content for name, content in found.items() if not name.startswith("original/")}


def describe(folder):
    return manifest.describe(folder, REPO, (), DEFAULT_EXCLUDE, lambda _: None).commit


class Source:
    """A folder at an endpoint, an empty store, and what was emitted."""

    def __init__(self, endpoint, root, store):
        self.endpoint, self.root, self.store, self.lines = endpoint, root, store, []

    def put(self, model, revision="v1"):
        shutil.copytree(model, self.folder(revision))
        return describe(self.folder(revision))

    def folder(self, revision="v1"):
        return self.root / REPO / revision

    def stage(self, revision="v1", **changes):
        request = {
            "repo": REPO,
            "revision": revision,
            "store": self.store,
            "endpoint": self.endpoint,
            "token": None,
            "include": (),
            "exclude": DEFAULT_EXCLUDE,
            "connections": 4,
            "give_up_after_seconds": 1.0,
        }
        return staging.stage(staging.Request(**{**request, **changes}), Sources(), self.lines.append)

    def edit_manifest(self, change, revision="v1"):
        path = self.folder(revision) / MANIFEST
        value = json.loads(path.read_text())
        change(value)
        path.write_text(json.dumps(value))


@pytest.fixture(autouse=True)
def no_credentials_of_this_machine(monkeypatch):
    for name in ("HF_ENDPOINT", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "AWS_PROFILE", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def directory(tmp_path):
    root = tmp_path / "source with a space"
    root.mkdir()
    return Source(f"file://{root}", root, tmp_path / "store")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    buckets = tmp_path_factory.mktemp("buckets")
    with gateway.running(buckets) as found:
        yield found


@pytest.fixture
def s3(server, tmp_path, monkeypatch):
    keys = {"AWS_ACCESS_KEY_ID": gateway.ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": gateway.SECRET_KEY}
    for name, value in {**keys, "AWS_ENDPOINT": f"http://127.0.0.1:{server.port}"}.items():
        monkeypatch.setenv(name, value)
    bucket = f"bucket-{time.monotonic_ns()}"
    (server.buckets / bucket).mkdir()
    return Source(f"s3://{bucket}/pre/fix", server.buckets / bucket / "pre/fix", tmp_path / "store")


@pytest.fixture(params=["directory", pytest.param("s3", marks=IN_S3)])
def source(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def model(model_root):
    return model_root / REPO / "v1"


def test_a_commit_is_published_whole_and_every_byte_is_the_sources(source, model):
    commit = source.put(model)
    report = source.stage()
    assert tree(source.store / "models/acme--small" / commit) == tree(model)
    assert (report.commit, report.files, report.bytes_fetched) == (commit, 7, report.bytes_total)


@pytest.mark.usefixtures("small_parts")
def test_many_requests_a_file_bring_the_same_bytes(source, model):
    commit = source.put(model)
    report = source.stage(connections=8)
    assert tree(source.store / "models/acme--small" / commit) == tree(model)
    assert report.bytes_fetched == report.bytes_total


def test_names_that_addresses_would_quote_arrive_as_they_are(source, model):
    shutil.copytree(model, source.folder())
    names = ["a b+c%20d#e?.txt", "ünï/ç.txt", "x=1&y=2.json"]
    for name in names:
        (source.folder() / name).parent.mkdir(exist_ok=True)
        (source.folder() / name).write_text(name)
    commit = describe(source.folder())
    source.stage()
    found = tree(source.store / "models/acme--small" / commit)
    assert {name: found[name].decode() for name in names} == {name: name for name in names}


@pytest.mark.parametrize("links", [False, True])
def test_the_published_commit_of_another_store_is_a_source(bench, source, monkeypatch, links):
    if links:
        monkeypatch.setattr("pathlib.Path.hardlink_to", _no_links)
    commit = bench.stage().commit
    shutil.copytree(bench.published(), source.folder(commit))
    source.stage(commit)
    assert tree(source.store / "models/acme--small" / commit) == tree(bench.published())


def _no_links(_place, _target):
    raise OSError(1, "Operation not permitted")


def test_another_store_can_be_read_in_place(bench, tmp_path):
    commit = bench.stage().commit
    (tmp_path / "view/acme/small").mkdir(parents=True)
    (tmp_path / "view" / REPO / "live").symlink_to(bench.published())
    again = Source(f"file://{tmp_path}/view", tmp_path / "view", tmp_path / "second")
    assert again.stage("live").commit == commit
    assert tree(Store(again.store).model(REPO, commit)) == tree(bench.published())


def test_a_commit_is_found_in_the_folder_of_a_branch(source, model, model_root):
    """A rollout resolves its branch once and asks for the commit from then on."""
    commit = source.put(model, "main")
    source.put(model_root / REPO / "v2", "next")
    source.put(model_root / REPO / "v2", "broken")
    (source.folder("broken") / MANIFEST).write_text("{")
    assert source.stage(commit).commit == commit


def test_a_folder_that_has_become_another_commit_is_not_mixed(source, model, model_root):
    source.put(model, "main")
    first = Sources().resolve(REPO, "main", source.endpoint)
    shutil.rmtree(source.folder("main"))
    source.put(model_root / REPO / "v2", "main")
    with pytest.raises(Permanent, match=r"is not there: check model\.repo, model\.revision"):
        source.stage(first.commit)


def _set_commit(value):
    value["commit"] = "main"


def _climb(value):
    value["files"][0]["path"] = "../outside"


def _forget_digest(value):
    value["files"][0]["digest"] = "md5:00"


def _forget_tokenizer(value):
    value["files"] = [entry for entry in value["files"] if entry["path"] != "tokenizer.json"]


def _break(value):
    value["files"] = "all of them"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set_commit, "is no manifest of a model: write it with llm-rollout manifest"),
        (_break, "is no manifest of a model"),
        (_climb, "'../outside', which could be written outside"),
        (_forget_digest, "no usable digest"),
        (_forget_tokenizer, "none is a tokenizer"),
    ],
)
def test_a_manifest_that_cannot_be_used_is_refused(source, model, change, message):
    source.put(model)
    source.edit_manifest(change)
    with pytest.raises(Permanent, match=message):
        source.stage()


@pytest.mark.parametrize(
    ("revision", "repo"), [("v9", REPO), ("v1", "acme/nothing"), ("../../etc", REPO), ("f" * 40, REPO)]
)
def test_what_is_not_there_is_permanent_and_says_what_to_correct(source, model, revision, repo):
    source.put(model)
    with pytest.raises(Permanent, match=r"\.manifest\.json is not there: check|cannot be a folder"):
        source.stage(revision, repo=repo)


def test_a_file_that_is_missing_at_the_source_is_named(source, model):
    source.put(model)
    (source.folder() / SHARD).unlink()
    with pytest.raises(Permanent, match=rf"{SHARD} is not there although the manifest names it"):
        source.stage()


def test_a_file_that_is_cut_short_at_the_source_is_named(source, model):
    source.put(model)
    (source.folder() / SHARD).write_bytes(b"short")
    with pytest.raises(Transient, match=rf"{SHARD} has another length than \d+ bytes"):
        source.stage()


def test_wrong_bytes_at_the_source_are_named_and_nothing_is_published(source, model):
    commit = source.put(model)
    path = source.folder() / SHARD
    content = bytearray(path.read_bytes())
    content[SHARD_BYTES // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(Permanent, match=rf"{SHARD} arrived with wrong content 3 times: expected sha256:"):
        source.stage()
    assert not Store(source.store).model(REPO, commit).exists()


@pytest.mark.parametrize(
    "endpoint",
    ["s3://user:secret@bucket/x", "s3:///x", "gs://", "file://host/x", "file:///nowhere/at/all", "s3://b?a=b"],
)
def test_an_endpoint_that_cannot_be_used_is_refused_without_repeating_a_password(directory, endpoint):
    with pytest.raises(Permanent, match=r"--endpoint must be s3://|cannot be opened") as said:
        directory.stage(endpoint=endpoint)
    assert "secret" not in str(said.value)


def test_the_environment_may_name_an_object_store_and_does_not_replace_one(directory, model, monkeypatch):
    commit = directory.put(model)
    monkeypatch.setenv("HF_ENDPOINT", directory.endpoint)
    assert Sources().resolve(REPO, "v1", "http://hub.invalid").commit == commit
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert Sources().resolve(REPO, "v1", directory.endpoint).commit == commit


@IN_S3
@pytest.mark.parametrize("secret", ["wrong-and-not-to-be-seen", None])
def test_without_the_right_key_access_is_refused_and_no_key_is_shown(s3, model, monkeypatch, secret):
    s3.put(model)
    if secret:
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    else:
        monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    with pytest.raises(Permanent, match=r"may not be read: check AWS_ACCESS_KEY_ID.*\(model\.source_secret\)") as said:
        s3.stage()
    shown = str(said.value) + json.dumps(s3.lines)
    assert gateway.ACCESS_KEY not in shown.replace("AWS_ACCESS_KEY_ID", "")
    assert not [word for word in ("wrong-and", gateway.SECRET_KEY, "Signature", "<Error>") if word in shown]


@IN_S3
def test_a_bucket_that_cannot_be_is_permanent(s3, model):
    s3.put(model)
    with pytest.raises(
        Permanent, match=r"answered with 400: check model\.endpoint, the bucket's region \(AWS_REGION\)"
    ):
        s3.stage(endpoint="s3://b")


@pytest.mark.parametrize(("status", "kind"), [(301, Permanent), (400, Permanent), (416, Transient), (503, Transient)])
def test_a_status_that_may_pass_is_tried_again(status, kind):
    error = OSError(f"Error performing GET http://x - Server returned non-2xx status code: {status} Words: <Error/>")
    assert type(object_source.ObjectSource("s3://bucket").explained(error, "x")) is kind


def test_google_cloud_storage_is_read_as_its_stand_in_has_it(tmp_path, model, monkeypatch):
    """The library's way to the real service, with another address: a server of a few lines that knows ranges."""
    source = Source("gs://bucket/pre/fix", tmp_path / "bucket/pre/fix", tmp_path / "store")
    commit = source.put(model)
    with gcs.serving(tmp_path) as key:
        monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", key)
        source.stage()
        assert tree(Store(source.store).model(REPO, commit)) == tree(model)
        (source.folder() / MANIFEST).unlink()
        with pytest.raises(Permanent, match=r"gs://bucket/pre/fix/acme/small/v1/\.manifest\.json is not there"):
            source.stage()


@IN_S3
def test_an_object_store_that_is_not_there_is_transient(s3, model, monkeypatch):
    s3.put(model)
    monkeypatch.setenv("AWS_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(Transient, match=r"s3://bucket-\d+/pre/fix/\S+ cannot be reached"):
        s3.stage()


def test_without_credentials_the_variables_to_set_are_named():
    """As the library says it where a machine has no identity of its own."""
    source = object_source.ObjectSource("s3://bucket/prefix")
    error = OSError("Error performing PUT http://169.254.169.254/latest/api/token - error sending request")
    assert "set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY" in str(source.explained(error, "x"))


@pytest.fixture
def relay(s3, server, monkeypatch):  # noqa: ARG001 - s3 sets the address that this one replaces
    found = Relay(server.port)
    monkeypatch.setenv("AWS_ENDPOINT", f"http://127.0.0.1:{found.port}")
    yield found
    found.end()


@IN_S3
@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize(("stands_still", "cause"), [(False, "broke off"), (True, "brought no byte for 1 s")])
def test_a_server_that_goes_away_meanwhile_is_named_and_what_has_arrived_is_kept(s3, relay, model, stands_still, cause):
    commit = s3.put(model)
    relay.fail(SHARD_BYTES, stands_still=stands_still)
    began = time.monotonic()
    with pytest.raises(Transient, match=rf"nothing new came for .* the last cause: s3://.*({cause})"):
        s3.stage()
    assert time.monotonic() - began < 20
    relay.mend()
    report = s3.stage()
    assert report.bytes_reused >= 64 * 1024
    assert tree(Store(s3.store).model(REPO, commit)) == tree(model)


def test_a_folder_that_is_filled_anew_while_it_is_staged_is_not_read_from(source, model):
    """Between the look at the manifest and the first file."""
    source.put(model)
    connection = ObjectTransport(source.endpoint, REPO, "v1", "0" * 40).connect(1.0)
    with pytest.raises(Transient, match="has become another commit: run it again"):
        connection.request(File("config.json", 2, Digest("sha256", "0" * 64)), 0, 2)
