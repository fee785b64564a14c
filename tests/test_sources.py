"""Every form in which CIFAR-10 comes is read to the same batches, and nothing else is taken for CIFAR-10."""

import contextlib
import gzip
import io
import json
import pickle
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_batches import (
    COUNT,
    NAMES,
    VERSIONS,
    npm_version,
    python_version,
    tar_bytes,
    use_small_batches,
    write_folder,
)

from resnet_lib import sources
from resnet_lib.data import DataError
from resnet_lib.sources import read_archive, read_source

# The folder is the same for all examples of a test; each writes the same file anew.
FUZZ = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def batches(monkeypatch):
    return use_small_batches(monkeypatch)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_folder_is_read(version, batches, tmp_path):
    folder = write_folder(tmp_path / "cifar", VERSIONS[version](batches))
    assert read_source(folder) == batches


@pytest.mark.parametrize("version", VERSIONS)
def test_a_folder_around_the_official_one_is_read(version, batches, tmp_path):
    write_folder(tmp_path / "downloads" / "2009" / "cifar", VERSIONS[version](batches))
    assert read_source(tmp_path / "downloads") == batches


@pytest.mark.parametrize("mode", ["w:gz", "w", "w:xz"])
@pytest.mark.parametrize("version", VERSIONS)
def test_an_archive_is_read_in_any_order_of_its_files(version, mode, batches, tmp_path):
    files = dict(reversed(VERSIONS[version](batches).items()))
    archive = tmp_path / "cifar.archive"
    archive.write_bytes(tar_bytes(files, mode))
    assert read_source(archive) == batches
    assert list(tmp_path.iterdir()) == [archive]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("batch", NAMES)
def test_one_altered_byte_is_found_and_its_batch_named(version, batch, batches, tmp_path):
    altered = dict(batches)
    altered[batch] = batches[batch][:5000] + bytes([batches[batch][5000] ^ 1]) + batches[batch][5001:]
    folder = write_folder(tmp_path / "cifar", VERSIONS[version](altered))
    with pytest.raises(DataError, match=rf"{batch} in .*cifar is not the official one: the MD5 is .*Get it again"):
        read_source(folder)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_wrong_label_is_found(version, batches, tmp_path):
    altered = dict(batches)
    altered["test_batch"] = bytes([(batches["test_batch"][0] + 1) % 10]) + batches["test_batch"][1:]
    folder = write_folder(tmp_path / "cifar", VERSIONS[version](altered))
    with pytest.raises(DataError, match="test_batch"):
        read_source(folder)


@pytest.mark.parametrize("version", VERSIONS)
@FUZZ
@given(data=st.data())
def test_damage_anywhere_in_an_archive_is_one_clear_error(version, data, batches, tmp_path):
    whole = bytearray(tar_bytes(VERSIONS[version](batches)))
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    archive = tmp_path / "cifar.tar.gz"
    archive.write_bytes(whole)
    # Some bytes carry nothing, such as the time in gzip's header; all others must be found.
    with contextlib.suppress(DataError):
        assert read_source(archive) == batches


@FUZZ
@given(share=st.floats(0, 0.98))
def test_a_truncated_archive_is_told(share, batches, tmp_path):
    whole = tar_bytes(VERSIONS["binary"](batches))
    archive = tmp_path / "cifar.tar.gz"
    archive.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(DataError, match=r"Get it again|Missing"):
        read_source(archive)


@pytest.mark.parametrize("size", [0, 1, 3, 9, 11, 200])
def test_an_archive_of_which_only_the_first_bytes_came_is_told(size, batches, tmp_path):
    archive = tmp_path / "cifar.tar.gz"
    archive.write_bytes(tar_bytes(VERSIONS["binary"](batches))[:size])
    with pytest.raises(DataError, match=r"could not be read as a tar archive .* Get it again"):
        read_source(archive)


@FUZZ
@given(data=st.data())
def test_a_damaged_png_is_one_clear_error(data, batches, tmp_path):
    files = npm_version(batches)
    png = bytearray(files["data_batch_3.png"])
    for _ in range(data.draw(st.integers(1, 3))):
        png[data.draw(st.integers(0, len(png) - 1))] ^= data.draw(st.integers(1, 255))
    if data.draw(st.booleans()):
        del png[data.draw(st.integers(0, len(png))) :]
    files["data_batch_3.png"] = bytes(png)
    archive = tmp_path / "cifar.tar"
    archive.write_bytes(tar_bytes(files, "w"))
    with contextlib.suppress(DataError):
        assert read_source(archive) == batches


def test_a_png_of_another_size_is_not_even_decoded(batches, tmp_path):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    files = npm_version(batches)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 9000, 9000, 8, 2, 0, 0, 0))
    files["data_batch_1.png"] = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    folder = write_folder(tmp_path / "cifar", files)
    with pytest.raises(DataError, match=f"data_batch_1 .* 9000 x 9000 pixels, expected 1024 x {COUNT}"):
        read_source(folder)


@pytest.mark.parametrize("labels", [[3] * 7, ["cat"] * 120, [300] * 120, {"labels": []}, 5])
def test_labels_that_are_none_are_told(labels, batches, tmp_path):
    files = npm_version(batches) | {"train_lables.json": json.dumps(labels).encode()}
    folder = write_folder(tmp_path / "cifar", files)
    with pytest.raises(DataError, match=r"data_batch_1 .* is not the official one"):
        read_source(folder)


def test_a_pickle_that_is_not_the_official_one_is_never_run(batches, tmp_path):
    class Trap:
        def __reduce__(self):
            return Path.touch, (tmp_path / "it was run",)

    files = python_version(batches) | {"data_batch_1": pickle.dumps(Trap())}
    folder = write_folder(tmp_path / "cifar", files)
    with pytest.raises(DataError, match="data_batch_1"):
        read_source(folder)
    assert not (tmp_path / "it was run").exists()


def archive_with(tmp_path, batches, member, content=b""):
    path = tmp_path / "cifar.tar"
    buffer = io.BytesIO(tar_bytes(VERSIONS["binary"](batches), "w"))
    with tarfile.open(fileobj=buffer, mode="a") as archive:
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    path.write_bytes(buffer.getvalue())
    return path


@pytest.mark.parametrize(
    "name",
    ["../outside", "cifar/../../outside", "/etc/outside", "..\\outside", "C:\\outside", "\\\\host\\share\\outside"],
)
def test_a_path_that_climbs_out_is_refused(name, batches, tmp_path):
    folder = tmp_path / "inner"
    folder.mkdir()
    archive = archive_with(folder, batches, tarfile.TarInfo(name), b"x")
    with pytest.raises(DataError, match="climbs out of it"):
        read_source(archive)
    assert [path.name for path in tmp_path.rglob("*")] == ["inner", "cifar.tar"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(kind, batches, tmp_path):
    member = tarfile.TarInfo("cifar/link")
    member.type, member.linkname = kind, "../../etc/passwd"
    with pytest.raises(DataError, match="a link or device, 'cifar/link'"):
        read_source(archive_with(tmp_path, batches, member))


def test_an_archive_that_swells_is_refused_before_it_is_read(monkeypatch, tmp_path):
    # 10 GB are announced; the file ends there, so reading on would give another error.
    member = tarfile.TarInfo("data_batch_1.bin")
    member.size = 10_000_000_000
    archive = tmp_path / "bomb.tar.gz"
    archive.write_bytes(gzip.compress(member.tobuf(tarfile.GNU_FORMAT) + bytes(1024)))
    with pytest.raises(DataError, match="more than 400 MB"):
        read_source(archive)
    # Many files that are each small enough.
    monkeypatch.setattr(sources, "MAX_UNPACKED", 1_000_000)
    archive.write_bytes(tar_bytes({str(number): bytes(10_000) for number in range(101)}))
    with pytest.raises(DataError, match="more than 1 MB"):
        read_archive(archive)


def test_another_dataset_is_told_by_what_is_missing_and_what_is_there(batches, tmp_path):
    archive = tmp_path / "cifar-100-python.tar.gz"
    archive.write_bytes(tar_bytes({"train": b"1", "test": b"2", "meta": b"3"}))
    with pytest.raises(DataError, match=r"does not hold CIFAR-10.*Missing: data_batch_1.*Found: meta, test, train"):
        read_source(archive)


@pytest.mark.parametrize(
    ("version", "missing"), [("binary", "data_batch_4.bin"), ("python", "test_batch"), ("npm", "test_lables.json")]
)
def test_a_missing_file_is_named(version, missing, batches, tmp_path):
    files = VERSIONS[version](batches)
    del files[missing]
    folder = write_folder(tmp_path / "cifar", files)
    with pytest.raises(DataError, match=rf"Missing: {missing}\. Found"):
        read_source(folder)


def test_an_empty_folder_and_no_file_at_all_are_told(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="Found: nothing"):
        read_source(tmp_path / "empty")
    with pytest.raises(DataError, match="does not exist"):
        read_source(tmp_path / "nowhere.tar.gz")


def test_a_zip_and_other_files_are_told(batches, tmp_path):
    path = tmp_path / "cifar.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in VERSIONS["binary"](batches).items():
            archive.writestr(name, content)
    (tmp_path / "text").write_text("CIFAR-10 is a dataset.\n" * 100)
    (tmp_path / "empty").write_bytes(b"")
    for other in (path, tmp_path / "text", tmp_path / "empty"):
        with pytest.raises(DataError, match=r"could not be read as a tar archive .* unpack it and give the folder"):
            read_source(other)
