import errno
import gzip
import io
import json
import os
import re
import stat
import sys
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from headstart.errors import DataError, StorageError, UsageError
from headstart.pictures.dataset import Dataset, Problem
from headstart.pictures.scan import scan


def picture_bytes(format_name: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (2, 2)).save(buffer, format_name)
    return buffer.getvalue()


PNG = picture_bytes()


def lay(root: Path, *paths: str, data: bytes = PNG) -> Path:
    """Write the same bytes to each path below `root`; a path that ends with a slash is an empty folder."""
    for path in paths:
        place = root / path
        if path.endswith("/"):
            place.mkdir(parents=True)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
    return root


def labels(dataset: Dataset) -> dict[str, str]:
    return {sample.path: sample.label for sample in dataset.samples}


def given(dataset: Dataset) -> dict[str, str | None]:
    return {sample.path: sample.given for sample in dataset.samples}


def problems(dataset: Dataset) -> set[tuple[str, str, str]]:
    return {(problem.path, problem.kind, problem.detail) for problem in dataset.problems}


# Folders


def test_class_folders(tmp_path: Path) -> None:
    root = lay(tmp_path / "d", "dogs/b.jpg", "cats/a.PNG", "cats/persian/c.webp", "dogs/a b é 🥐.jpg")
    dataset = scan(root)
    assert dataset.root == root
    assert labels(dataset) == {
        "cats/a.PNG": "cats",
        "cats/persian/c.webp": "cats/persian",
        "dogs/a b é 🥐.jpg": "dogs",
        "dogs/b.jpg": "dogs",
    }
    assert [sample.path for sample in dataset.samples] == sorted(labels(dataset))
    assert set(given(dataset).values()) == {None}
    assert dataset.problems == ()


def test_what_is_passed_over_is_named(tmp_path: Path) -> None:
    root = lay(tmp_path / "d", "a/1.jpg", "b/1.jpg", "loose.jpg", "a/no_extension", "b/odd.dat", "gone/")
    lay(root, ".git/x.jpg", "a/.DS_Store", "a/Thumbs.db", "__MACOSX/._1.jpg", "@eaDir/a/1.jpg", "b/desktop.ini")
    lay(root, "a/notes.txt", "a/README", "notes/only.txt", data=b"some text")
    assert labels(scan(root)) == {"a/1.jpg": "a", "a/no_extension": "a", "b/1.jpg": "b", "b/odd.dat": "b"}
    assert problems(scan(root)) == {
        (".git/", "ignored", "hidden"),
        ("a/.DS_Store", "ignored", "hidden"),
        ("a/Thumbs.db", "ignored", "made by the operating system"),
        ("b/desktop.ini", "ignored", "made by the operating system"),
        ("__MACOSX/", "ignored", "made by the operating system"),
        ("@eaDir/", "ignored", "made by the operating system"),
        ("a/notes.txt", "ignored", "not a picture: .txt"),
        ("notes/only.txt", "ignored", "not a picture: .txt"),
        ("a/README", "ignored", "not a picture: a file without extension"),
        ("loose.jpg", "ignored", "not in a class folder"),
        ("gone/", "empty_class", "no picture files in it"),
        ("notes/", "empty_class", "no picture files in it"),
    }
    assert {problem.action for problem in scan(root).problems} == {"left out"}


def test_a_broken_picture_stays_a_candidate(tmp_path: Path) -> None:
    root = lay(tmp_path, "a/1.jpg", "b/1.jpg", data=b"not a picture at all")
    assert len(scan(root).samples) == 2


def test_wrappers_are_opened(tmp_path: Path) -> None:
    lay(tmp_path / "d", "photos/photos/cats/1.jpg", "photos/photos/dogs/1.jpg", "__MACOSX/x")
    lay(tmp_path / "d", "photos/readme.txt", data=b"text")
    assert scan(tmp_path / "d").classes == ("cats", "dogs")
    lay(tmp_path / "one", "cats/1.jpg", "cats/2.jpg")
    assert scan(tmp_path / "one").classes == ("cats",)
    lay(tmp_path / "mixed", "animals/1.jpg", "animals/cats/1.jpg")
    assert scan(tmp_path / "mixed").classes == ("animals", "animals/cats")


@pytest.mark.parametrize(("train", "other"), [("train", "val"), ("Training", "VALID"), ("TRAIN", "testing")])
def test_the_part_beside_train_is_the_test(tmp_path: Path, train: str, other: str) -> None:
    root = lay(
        tmp_path / "d" / "wrapper", f"{train}/cats/1.jpg", f"{other}/cats/2.jpg", f"{train}/1.jpg", "extra/cats/3.jpg"
    )
    dataset = scan(tmp_path / "d")
    assert root.name == "wrapper"
    assert given(dataset) == {f"wrapper/{train}/cats/1.jpg": "train", f"wrapper/{other}/cats/2.jpg": "test"}
    assert dataset.classes == ("cats",)
    assert problems(dataset) == {
        (f"wrapper/{train}/1.jpg", "ignored", "not in a class folder"),
        ("wrapper/extra/", "ignored", f"beside {train}, {other}, and not one of them"),
    }


def test_all_three_parts(tmp_path: Path) -> None:
    root = lay(
        tmp_path, "train/a/1.jpg", "validation/a/2.jpg", "test/a/3.jpg", "train/b/", "test/b/1.jpg", "val.txt/c/"
    )
    assert list(given(scan(root)).values()) == ["test", "test", "train", "val"]
    assert not [problem for problem in scan(root).problems if problem.kind == "empty_class"]


def test_train_alone_is_no_split(tmp_path: Path) -> None:
    root = lay(tmp_path / "d", "train/a/1.jpg", "train/b/2.jpg")
    assert set(given(scan(root)).values()) == {None}
    lay(root, "test/1.jpg", "test/2.jpg")  # as on Kaggle: a test without labels
    assert given(scan(root)) == {"train/a/1.jpg": None, "train/b/2.jpg": None}
    assert ("test/1.jpg", "ignored", "not in a class folder") in problems(scan(root))


def test_classes_may_be_named_like_parts(tmp_path: Path) -> None:
    root = lay(tmp_path, "train/1.jpg", "bus/1.jpg", "test/1.jpg")
    assert scan(root).classes == ("bus", "test", "train")


def test_two_folders_for_one_part_are_refused(tmp_path: Path) -> None:
    root = lay(tmp_path, "train/a/1.jpg", "val/a/1.jpg", "valid/a/1.jpg")
    with pytest.raises(DataError, match="two folders are the val part: 'val' and 'valid'"):
        scan(root)


def test_a_test_that_lies_apart(tmp_path: Path) -> None:
    root = lay(tmp_path / "d", "cats/1.jpg", "dogs/1.jpg")
    apart = lay(tmp_path / "apart", "cats/2.jpg", "notes.txt")
    dataset = scan(root, test=apart)
    assert given(dataset) == {f"{apart}/cats/2.jpg": "test", "cats/1.jpg": "train", "dogs/1.jpg": "train"}
    assert all(dataset.locate(sample).is_file() for sample in dataset.samples)
    assert problems(dataset) == {(f"{apart}/notes.txt", "ignored", "not in a class folder")}
    lay(tmp_path / "parts", "train/cats/1.jpg", "val/cats/2.jpg")
    assert Counter(given(scan(tmp_path / "parts", test=apart)).values()) == {"train": 1, "val": 1, "test": 1}
    lay(tmp_path / "parts", "test/cats/2.jpg")
    with pytest.raises(UsageError, match="has a test part of its own"):
        scan(tmp_path / "parts", test=apart)
    with pytest.raises(UsageError, match="has parts of its own"):
        scan(root, test=tmp_path / "parts")
    with pytest.raises(DataError, match=r"there is no .*absent"):
        scan(root, test=tmp_path / "absent")


def test_a_test_within_the_data_is_not_trained_on(tmp_path: Path) -> None:
    root = lay(tmp_path / "d", "cats/1.jpg", "dogs/1.jpg", "held_out/cats/2.jpg")
    dataset = scan(root, test=root / "held_out")
    assert Counter(given(dataset).values()) == {"train": 2, "test": 1}
    assert dataset.classes == ("cats", "dogs")


@pytest.mark.skipif(sys.platform == "win32", reason="needs links, pipes and arbitrary names")
def test_links_pipes_and_names(tmp_path: Path) -> None:
    elsewhere = lay(tmp_path / "elsewhere", "1.jpg", "deeper/2.jpg")
    root = lay(tmp_path / "d", "cats/1.jpg", "dogs/1.jpg")
    (root / "birds").symlink_to(elsewhere)
    (elsewhere / "deeper" / "loop").symlink_to(elsewhere)
    (root / "cats" / "up").symlink_to(root)
    (root / "cats" / "broken.jpg").symlink_to(root / "nothing.jpg")
    (root / "cats" / "linked.jpg").symlink_to(elsewhere / "1.jpg")
    os.mkfifo(root / "dogs" / "pipe.jpg")
    lay(Path(os.fsdecode(bytes(root) + b"/dogs")), os.fsdecode(b"caf\xe9.jpg"), os.fsdecode(b"\xe9/1.jpg"))
    dataset = scan(root)
    assert labels(dataset) == {
        "birds/1.jpg": "birds",
        "birds/deeper/2.jpg": "birds/deeper",
        "cats/1.jpg": "cats",
        "cats/linked.jpg": "cats",
        "dogs/1.jpg": "dogs",
    }
    assert problems(dataset) == {
        ("birds/deeper/loop/", "ignored", "a link to a folder that it lies in"),
        ("cats/up/", "ignored", "a link to a folder that it lies in"),
        ("cats/broken.jpg", "unreadable", "a link to a file that does not exist"),
        ("dogs/pipe.jpg", "ignored", "not a regular file"),
        ("dogs/caf\\xe9.jpg", "unreadable", "its name is not valid UTF-8: rename it"),
        ("dogs/\\xe9/", "unreadable", "its name is not valid UTF-8: rename it"),
    }


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = lay(tmp_path, "a/1.jpg", "b/1.jpg", "locked/1.jpg")
    scandir: Callable[[Path], Iterator[os.DirEntry[str]]] = os.scandir

    def refuse(path: Path) -> Iterator[os.DirEntry[str]]:
        if path == locked:
            raise PermissionError(errno.EACCES, "Permission denied")
        return scandir(path)

    locked = root / "locked"
    monkeypatch.setattr(os, "scandir", refuse)
    dataset = scan(root)
    assert problems(dataset) == {("locked/", "unreadable", "the folder cannot be read: Permission denied")}
    locked = root / ""
    with pytest.raises(DataError, match="cannot be read: Permission denied"):
        scan(root)


def test_nothing_to_scan(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no .*nowhere\. Give the folder"):
        scan(tmp_path / "nowhere")
    with pytest.raises(DataError, match="there are no pictures in class folders"):
        scan(lay(tmp_path / "empty", "a/"))
    with pytest.raises(DataError, match=r"2 things were passed over, first 1\.jpg: not in a class folder"):
        scan(lay(tmp_path / "flat", "1.jpg", "2.jpg"))
    with pytest.raises(DataError, match="neither a folder, nor a manifest"):
        scan(lay(tmp_path, "1.jpg") / "1.jpg")


# Groups


def test_groups_by_pattern(tmp_path: Path) -> None:
    root = lay(tmp_path, "a/p1_1.jpg", "a/p1_2.jpg", "b/p2_1.jpg", "b/other.jpg")
    assert [sample.group for sample in scan(root, group_by=r"/(p\d+)_").samples] == ["p1", "p1", None, "p2"]
    assert [sample.group for sample in scan(root, group_by=r"p\d+").samples] == ["p1", "p1", None, "p2"]
    with pytest.raises(UsageError, match="is not a regular expression"):
        scan(root, group_by="(")
    with pytest.raises(UsageError, match=r"'q\\\\d' matches no path, such as 'a/p1_1.jpg'"):
        scan(root, group_by=r"q\d")


# Manifests


def write_manifest(root: Path, text: str, name: str = "list.csv") -> Path:
    lay(root, "x/1.jpg", "x/2.jpg", "x/3, third.jpg")
    (root / name).write_bytes(text.encode())
    return root / name


def test_csv(tmp_path: Path) -> None:
    outside = lay(tmp_path / "outside", "4.jpg") / "4.jpg"
    text = (
        "\ufeffpath,label,split,group,patient\r\n"
        "x/2.jpg,dog,Validation,,p1\r\n"
        f'./x//1.jpg, cat ,TRAIN,g1,p1\r\n"x/3, third.jpg","c, at",,,\r\n\r\n{outside},cat,val,g1,p2\r\n'
        "x/none.jpg,cat,,,\r\nx/1.jpg,,,,\r\nx,cat,,,\r\n"
    )
    dataset = scan(write_manifest(tmp_path / "d", text))
    assert dataset.root == tmp_path / "d"
    assert [(sample.path, sample.label, sample.given, sample.group) for sample in dataset.samples] == [
        (str(outside), "cat", "test", "g1"),
        ("x/1.jpg", "cat", "train", "g1"),
        ("x/2.jpg", "dog", "test", None),
        ("x/3, third.jpg", "c, at", "train", None),
    ]
    assert problems(dataset) == {
        ("x/none.jpg", "unreadable", "no such file (line 7)"),
        ("x/1.jpg", "ignored", "no label (line 8)"),
        ("x", "unreadable", "a folder, not a file (line 9)"),
    }
    by_patient = scan(tmp_path / "d" / "list.csv", group_by="patient")
    assert [sample.group for sample in by_patient.samples] == ["p2", "p1", "p1", None]
    by_pattern = scan(tmp_path / "d" / "list.csv", group_by=r"(\d)\.jpg")
    assert [sample.group for sample in by_pattern.samples] == ["4", "1", "2", None]
    with pytest.raises(UsageError, match=r"is no column of the manifest \(path, label, split, group, patient\) and"):
        scan(tmp_path / "d" / "list.csv", group_by="patinet")


def test_other_tables(tmp_path: Path) -> None:
    expected = {"x/1.jpg": "cat", "x/2.jpg": "7"}
    tsv = write_manifest(tmp_path, "path\tlabel\nx/1.jpg\tcat\nx/2.jpg\t7\n", "list.tsv")
    assert labels(scan(tsv)) == expected
    lines = '{"path": "x/1.jpg", "label": "cat", "size": {"w": 3}}\n\n{"path": "x/2.jpg", "label": 7, "split": null}'
    dataset = scan(write_manifest(tmp_path, lines, "list.jsonl"))
    assert labels(dataset) == expected
    assert set(given(dataset).values()) == {None}


def test_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    lay(tmp_path, "x/1.jpg", "x/2.jpg")
    columns = {"path": ["x/1.jpg", "x/2.jpg"], "label": [3, 7], "split": ["train", "test"], "box": [[1, 2], [3]]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "list.parquet")
    dataset = scan(tmp_path / "list.parquet")
    assert labels(dataset) == {"x/1.jpg": "3", "x/2.jpg": "7"}
    assert given(dataset) == {"x/1.jpg": "train", "x/2.jpg": "test"}
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 nonsense")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        scan(tmp_path / "bad.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"pip install headstart\[parquet\]"):
        scan(tmp_path / "list.parquet")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("l.csv", "path,class\nx/1.jpg,a\n", "has no column 'label'; its columns are 'path', 'class'"),
        ("l.csv", "", "has no column 'path', 'label'; its columns are none"),
        ("l.csv", "path;label\nx/1.jpg;a\n", "its columns are 'path;label'"),
        ("l.csv", "path,label,label\n", "names a column twice"),
        ("l.csv", "path,label\nx/3, third.jpg,a\n", "line 2: 3 cells for 2 columns. Put quotation marks"),
        ("l.csv", 'path,label\n"x/1.jpg,a\n', "line 2: unexpected end of data. Is a quotation mark missing"),
        ("l.csv", "path,label\n,a\n", "line 2: the path is empty"),
        ("l.csv", "path,label,split\nx/1.jpg,a,dev\n", "line 2: the split is 'dev', but must be one of train, "),
        ("l.jsonl", '{"path": "x/1.jpg"\n', "line 1: not JSON"),
        ("l.jsonl", "[1]\n", r"line 1: not a JSON object but \[1\]"),
        ("l.jsonl", '{"path": ["x"], "label": 1}\n', r"line 1: 'path' must be a text, but is \['x'\]"),
        ("l.jsonl", '{"path": "x/1.jpg", "label": "\\ud800"}\n', "line 1: 'label' must be a text"),
    ],
)
def test_manifests_that_cannot_be_used(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        scan(write_manifest(tmp_path, text, name))


def test_a_manifest_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_bytes("path,label\nx/1.jpg,é\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"line 2: not UTF-8 \(byte 0xe9\). Save it as UTF-8."):
        scan(tmp_path / "l.csv")


def test_odd_paths_in_a_manifest(tmp_path: Path) -> None:
    lines = [{"path": "x/1.jpg", "label": "a"}, {"path": "x/\0.jpg", "label": "a"}, {"path": "x/1.jpg/2", "label": "a"}]
    dataset = scan(write_manifest(tmp_path, "\n".join(map(json.dumps, lines)), "l.jsonl"))
    assert labels(dataset) == {"x/1.jpg": "a"}
    assert {problem.kind for problem in dataset.problems} == {"unreadable"}


# Archives


def zip_of(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def test_zip_is_unpacked_once_into_the_cache(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    members = {"photos/cats/1.jpg": PNG, "photos/dogs/é.jpg": PNG, "__MACOSX/photos/._1.jpg": b"", "photos/": b""}
    archive = zip_of(tmp_path / "photos.zip", members)
    dataset = scan(archive)
    assert dataset.classes == ("cats", "dogs")
    assert cache in dataset.root.parents
    assert all(dataset.locate(sample).read_bytes() == PNG for sample in dataset.samples)
    monkeypatch.setattr(zipfile.ZipFile, "open", None)
    assert scan(archive) == dataset
    archive.rename(tmp_path / "renamed")  # told by its content, kept by its content
    assert scan(tmp_path / "renamed") == dataset
    assert [path.name[0] for path in (cache / "archives").iterdir()] != ["."]


@pytest.mark.parametrize("compression", ["", "gz", "bz2", "xz"])
def test_tar(tmp_path: Path, compression: str) -> None:
    source = lay(tmp_path / "source", "train/cats/1.jpg", "val/cats/2.jpg")
    path = tmp_path / "photos.tar"
    with tarfile.open(path, f"w:{compression}") as archive:
        archive.add(source, ".")
    assert given(scan(path)) == {"train/cats/1.jpg": "train", "val/cats/2.jpg": "test"}


def test_an_archive_with_a_manifest(tmp_path: Path) -> None:
    text = b"path,label\nraw/1.jpg,cat\nraw/2.jpg,dog\n../../../secret,dog\n/etc/passwd,dog\n"
    members = {"d/raw/1.jpg": PNG, "d/raw/2.jpg": PNG, "d/list.csv": text, "d/other.csv": b'a,b\n"'}
    dataset = scan(zip_of(tmp_path / "a.zip", members))
    assert labels(dataset) == {"raw/1.jpg": "cat", "raw/2.jpg": "dog"}
    assert {problem.detail for problem in dataset.problems} == {
        "leads out of the archive (line 4)",
        "leads out of the archive (line 5)",
    }


def test_dangerous_members_are_refused_and_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.tar"
    with tarfile.open(path, "w") as archive:
        for name in ("cats/1.jpg", "dogs/1.jpg", "/tmp/absolute.jpg", "cats/../../out.jpg", "dogs/\udce9.jpg"):
            info = tarfile.TarInfo(name)
            info.size = len(PNG)
            archive.addfile(info, io.BytesIO(PNG))
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
            info = tarfile.TarInfo(f"cats/kind{kind.decode()}.jpg")
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
    expected = {
        ("/tmp/absolute.jpg", "ignored", "an absolute path in the archive"),
        ("cats/../../out.jpg", "ignored", "a path that leads out of the archive"),
        ("dogs/\\xe9.jpg", "ignored", "its name is not valid UTF-8"),
        *((f"cats/kind{kind}.jpg", "ignored", "a link or device in the archive") for kind in "2163"),
    }
    assert problems(scan(path)) == expected
    assert problems(scan(path)) == expected  # from the cache, too
    assert len(scan(path).samples) == 2
    link = zipfile.ZipInfo("cats/link.jpg")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    zip_of(tmp_path / "bad.zip", {"cats/1.jpg": PNG, link: b"/etc/passwd", "../x.jpg": PNG})  # type: ignore[dict-item]
    assert [problem.path for problem in scan(tmp_path / "bad.zip").problems] == ["cats/link.jpg", "../x.jpg"]
    assert not (tmp_path / "x.jpg").exists()


def test_damaged_archives(tmp_path: Path, cache: Path) -> None:
    whole = zip_of(tmp_path / "a.zip", {"cats/1.jpg": PNG, "dogs/1.jpg": PNG * 9}).read_bytes()
    (tmp_path / "a.zip").write_bytes(whole.replace(PNG * 9, PNG * 8 + PNG[::-1]))
    assert problems(scan(tmp_path / "a.zip")) == {
        ("dogs/1.jpg", "unreadable", "damaged in the archive: Bad CRC-32 for file 'dogs/1.jpg'"),
        ("dogs/", "empty_class", "no picture files in it"),
    }
    source = lay(tmp_path / "s", *(f"cats/{number}.jpg" for number in range(50)), data=os.urandom(3000))
    with tarfile.open(tmp_path / "t.tgz", "w:gz") as archive:
        archive.add(source, ".")
    (tmp_path / "t.tgz").write_bytes((tmp_path / "t.tgz").read_bytes()[:2500])
    with pytest.raises(DataError, match=r"t\.tgz is damaged: .*Copy or download it again"):
        scan(tmp_path / "t.tgz")
    (tmp_path / "n.gz").write_bytes(gzip.compress(b"no archive"))
    with pytest.raises(DataError, match="neither a folder, nor a manifest"):
        scan(tmp_path / "n.gz")
    assert not [path for path in (cache / "archives").iterdir() if path.name.startswith(".")]


def test_encrypted_and_oversized_archives(tmp_path: Path, cache: Path) -> None:
    data = bytearray(zip_of(tmp_path / "a.zip", {"cats/1.jpg": PNG}).read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(DataError, match=r"a\.zip is encrypted"):
        scan(tmp_path / "a.zip")
    info = tarfile.TarInfo("cats/1.jpg")
    info.size = 10**18
    (tmp_path / "huge.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + PNG.ljust(2048, b"\0"))
    with pytest.raises((StorageError, DataError), match=re.escape(str(tmp_path / "huge.tar"))):
        scan(tmp_path / "huge.tar")
    large = bytearray(zip_of(tmp_path / "b.zip", {"cats/1.jpg": PNG}).read_bytes())
    size = large.index(b"PK\x01\x02") + 24
    large[size : size + 4] = b"\xfe\xff\xff\xff"
    (tmp_path / "b.zip").write_bytes(large)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10**9))
        with pytest.raises(StorageError, match=r"unpacks to 4\.3 GB, but .* has 1\.0 GB free"):
            scan(tmp_path / "b.zip")
    assert list((cache / "archives").iterdir()) == []


# Real photos


@pytest.mark.photos
def test_oddities(photos: Path) -> None:
    dataset = scan(photos / "oddities")
    assert dataset.classes == ("amber", "blue")
    assert "blue/no_extension" in labels(dataset)
    assert Problem("empty_class/", "empty_class", "no picture files in it", "left out") in dataset.problems
    ignored = {problem.path for problem in dataset.problems if problem.kind == "ignored"}
    assert {"__MACOSX/", "blue/.DS_Store", "blue/Thumbs.db", "empty_class/notes.txt"} <= ignored


@pytest.mark.photos
def test_parts_of_real_sets(photos: Path) -> None:
    assert Counter(given(scan(photos / "car_brands4")).values()) == {"train": 81, "test": 69}
    assert Counter(given(scan(photos / "sloth_pain")).values()) == {"train": 165, "test": 44}
    assert len(scan(photos / "sign_digits").samples) == 2062
