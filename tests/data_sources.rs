//! Whole datasets, downloaded from a local server that drops connections. Small files of the same
//! structure replace the real ones, and the result is opened by dataset name.

use std::collections::BTreeMap;
use std::io::{Cursor, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use crate::common::command::{fails_with, is_wrong_usage, sedet, text};
use crate::common::http_server::{Reply, Server};
use sedet::annotations::layout::Split;
use sedet::datasets::download::sha256_hex;
use sedet::datasets::registry::{DatasetName, LabeledName};
use sedet::datasets::sources::{
    DataSource, FetchError, FetchProgress, FetchStep, Fetched, Packing, data_source,
};

/// File contents by path on the server.
type Files = BTreeMap<&'static str, Vec<u8>>;

/// Serves files; each is truncated in the middle for the first `cuts` requests.
fn serve(files: &Files, cuts: usize) -> Server {
    let files = files.clone();
    let mut asked: BTreeMap<String, usize> = BTreeMap::new();
    let asked_before = std::sync::Mutex::new(move |path: &str| {
        let count = asked.entry(path.to_owned()).or_default();
        *count += 1;
        *count - 1
    });
    Server::start(move |request, _| {
        let path = request.path.trim_start_matches('/');
        let Some(body) = files.get(path) else {
            return Reply::status(404);
        };
        let reply = Reply::file(request, body, "\"v1\"");
        let before = asked_before.lock().unwrap()(path);
        let half = reply.body.len() / 2;
        if before < cuts {
            reply.cut_after(half)
        } else {
            reply
        }
    })
}

/// Returns the table's entry with the lengths and checksums of small files and at most two files
/// per directory.
fn stand_in(name: &str, files: &Files, url: &str) -> DataSource {
    let mut source = data_source(name).unwrap();
    source.base_url = format!("{url}/");
    for part in &mut source.parts {
        let content = &files[part.path];
        part.bytes = content.len() as u64;
        part.sha256 = sha256_hex(content);
        if let Packing::Archive {
            bytes, products, ..
        } = &mut part.packing
        {
            *bytes = part.bytes;
            for product in products {
                product.files = product.files.min(2);
            }
        }
    }
    source
}

fn fetch(source: &DataSource, data_dir: &Path, only: &[&str]) -> Result<Fetched, FetchError> {
    let only: Vec<String> = only.iter().map(|part| part.to_string()).collect();
    source.fetch(data_dir, &only, &mut |_| ())
}

fn zip_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    archive.add_directory("a_directory/", options).unwrap();
    for (path, content) in files {
        archive.start_file(*path, options).unwrap();
        archive.write_all(content).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, path, *content).unwrap();
    }
    archive.into_inner().unwrap()
}

fn image_file() -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    let black = image::RgbImage::new(3, 2);
    black.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

const COCO_JSON: &[u8] = br#"{"images":[{"id":1,"file_name":"a.png","width":3,"height":2},
    {"id":2,"file_name":"b.png","width":3,"height":2}],"annotations":[],
    "categories":[{"id":1,"name":"x"}]}"#;

fn coco() -> Files {
    let annotations: Vec<String> = ["instances", "person_keypoints", "captions"]
        .iter()
        .flat_map(|kind| ["train", "val"].map(|split| format!("{kind}_{split}2017.json")))
        .map(|name| format!("annotations/{name}"))
        .collect();
    let annotations: Vec<(&str, &[u8])> = annotations
        .iter()
        .map(|path| (path.as_str(), COCO_JSON))
        .collect();
    let image = image_file();
    let images = |a, b| zip_of(&[(a, &image), (b, &image)]);
    Files::from([
        (
            "annotations/annotations_trainval2017.zip",
            zip_of(&annotations),
        ),
        ("zips/val2017.zip", images("val2017/a.png", "val2017/b.png")),
        (
            "zips/train2017.zip",
            images("train2017/a.png", "train2017/b.png"),
        ),
    ])
}

fn names_in(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn coco_arrives_over_broken_connections_and_opens_by_its_name() {
    let directory = tempfile::tempdir().unwrap();
    let server = serve(&coco(), 2);
    let source = stand_in("coco", &coco(), &server.url);
    let mut reported = Vec::new();
    let fetched = source
        .fetch(directory.path(), &[], &mut |progress| {
            reported.push((progress.part.to_owned(), progress.step, progress.done));
        })
        .unwrap();
    assert_eq!(fetched.new, ["annotations", "val2017", "train2017"]);
    let home = directory.path().join("coco");
    assert_eq!(names_in(&home), ["annotations", "train2017", "val2017"]);
    assert_eq!(
        names_in(&home.join("train2017")),
        ["a.png", "b.png"],
        "nothing else is left"
    );
    let (train, val) = DatasetName::Coco.open(Some(directory.path())).unwrap();
    assert_eq!((train.dataset.len(), val.dataset.len()), (2, 2));
    assert_eq!(train.dataset.load_image(1).unwrap().dimensions(), (3, 2));
    let starts = server.range_starts();
    assert_eq!(starts.len(), 9);
    assert!(starts[1] > Some(0) && starts[2] > starts[1], "{starts:?}");
    let val_bytes = coco()["zips/val2017.zip"].len() as u64;
    assert!(reported.contains(&("val2017".into(), FetchStep::Fetching, val_bytes)));
    let unpacked = 2 * image_file().len() as u64;
    assert!(reported.contains(&("val2017".into(), FetchStep::Unpacking, unpacked)));

    let again = fetch(&source, directory.path(), &[]).unwrap();
    assert_eq!(again.already_there.len(), 3);
    assert_eq!(again.new.len(), 0);
    assert_eq!(
        server.range_starts().len(),
        9,
        "nothing was requested again"
    );
}

#[test]
fn only_requested_parts_are_fetched() {
    let directory = tempfile::tempdir().unwrap();
    let server = serve(&coco(), 0);
    let source = stand_in("coco", &coco(), &server.url);
    fetch(&source, directory.path(), &["val2017", "annotations"]).unwrap();
    assert_eq!(
        names_in(&directory.path().join("coco")),
        ["annotations", "val2017"]
    );
    let val = DatasetName::Coco.open_split(Split::Val, Some(directory.path()));
    assert_eq!(val.unwrap().dataset.len(), 2);
    let error = DatasetName::Coco.open_split(Split::Train, Some(directory.path()));
    let message = error.unwrap_err().to_string();
    assert!(message.contains("train2017 is missing"), "{message}");
    let rest = fetch(&source, directory.path(), &[]).unwrap();
    assert_eq!(rest.new, ["train2017"]);
    assert_eq!(server.range_starts().len(), 3);
    let error = fetch(&source, directory.path(), &["test2017"]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "coco has no part 'test2017'; its parts are annotations, val2017, train2017"
    );
}

/// Stops like a killed process, with whatever is on the disk at that moment.
fn killed_when(source: &DataSource, data_dir: &Path, moment: impl Fn(FetchProgress) -> bool) {
    let run = || source.fetch(data_dir, &[], &mut |progress| assert!(!moment(progress)));
    assert!(catch_unwind(AssertUnwindSafe(run)).is_err());
}

#[test]
fn a_killed_run_continues_with_existing_bytes_and_files() {
    let directory = tempfile::tempdir().unwrap();
    let server = serve(&coco(), 1);
    let source = stand_in("coco", &coco(), &server.url);
    let home = directory.path().join("coco");
    killed_when(&source, directory.path(), |progress| {
        progress.part == "val2017" && progress.step == FetchStep::Fetching && progress.done > 0
    });
    assert!(home.join("val2017.zip.part").is_file());
    assert!(!home.join("val2017").exists());
    killed_when(&source, directory.path(), |progress| {
        progress.part == "val2017" && progress.step == FetchStep::Unpacking && progress.done > 0
    });
    let asked = server.range_starts();
    assert_eq!(asked[2..].len(), 2, "val2017 was requested twice");
    assert!(asked[3] > Some(0));

    // The first file exists; a file of the same length shows that it is not written again.
    let staging = home.join(".unpacking-val2017.zip");
    assert_eq!(names_in(&staging.join("val2017")), ["a.png"]);
    let mark = vec![7; image_file().len()];
    std::fs::write(staging.join("val2017/a.png"), &mark).unwrap();
    std::fs::write(staging.join(".unfinished"), b"half").unwrap();
    fetch(&source, directory.path(), &[]).unwrap();
    assert_eq!(names_in(&home), ["annotations", "train2017", "val2017"]);
    assert_eq!(std::fs::read(home.join("val2017/a.png")).unwrap(), mark);
    assert_eq!(
        std::fs::read(home.join("val2017/b.png")).unwrap(),
        image_file()
    );
    assert_eq!(
        server.range_starts().len(),
        6,
        "only train2017 was fetched, over two connections"
    );
}

#[test]
fn a_run_killed_while_files_were_moved_is_completed_or_cleaned_up() {
    let directory = tempfile::tempdir().unwrap();
    let server = serve(&coco(), 0);
    let source = stand_in("coco", &coco(), &server.url);
    let home = directory.path().join("coco");
    fetch(&source, directory.path(), &[]).unwrap();
    // Before the last file was moved.
    let archive = home.join("annotations_trainval2017.zip");
    let staging = home.join(".unpacking-annotations_trainval2017.zip");
    let last = home.join("annotations/captions_val2017.json");
    std::fs::write(
        &archive,
        &coco()["annotations/annotations_trainval2017.zip"],
    )
    .unwrap();
    std::fs::create_dir_all(staging.join("annotations")).unwrap();
    std::fs::rename(&last, staging.join("annotations/captions_val2017.json")).unwrap();
    assert_eq!(
        fetch(&source, directory.path(), &[]).unwrap().new,
        ["annotations"]
    );
    assert!(last.is_file() && !archive.exists() && !staging.exists());
    // After the last file was moved.
    std::fs::write(&archive, b"whole").unwrap();
    std::fs::create_dir_all(&staging).unwrap();
    assert!(
        fetch(&source, directory.path(), &[])
            .unwrap()
            .new
            .is_empty()
    );
    assert!(!archive.exists() && !staging.exists());
    // An archive that the user keeps is not removed.
    std::fs::write(&archive, b"mine").unwrap();
    assert!(
        fetch(&source, directory.path(), &[])
            .unwrap()
            .new
            .is_empty()
    );
    assert!(archive.is_file());
    assert_eq!(server.range_starts().len(), 3);
}

#[test]
fn a_wrong_checksum_names_the_file_and_both_sums_and_nothing_is_unpacked() {
    let directory = tempfile::tempdir().unwrap();
    let server = serve(&coco(), 0);
    let mut source = stand_in("coco", &coco(), &server.url);
    let right = source.parts[1].sha256.clone();
    source.parts[1].sha256 = sha256_hex(b"another");
    let message = fetch(&source, directory.path(), &["val2017"])
        .unwrap_err()
        .to_string();
    for part in [
        "zips/val2017.zip",
        "wrong checksum",
        &right,
        &sha256_hex(b"another"),
        "removed",
    ] {
        assert!(message.contains(part), "{message}");
    }
    assert!(names_in(&directory.path().join("coco")).is_empty());
}

/// The replacement has the same length, so that nothing else in the archive changes.
fn replace(bytes: &mut [u8], from: &[u8], to: &[u8]) {
    assert_eq!(from.len(), to.len());
    for start in 0..=bytes.len() - from.len() {
        if bytes[start..].starts_with(from) {
            bytes[start..start + to.len()].copy_from_slice(to);
        }
    }
}

fn zip_with_path_traversal() -> Vec<u8> {
    // Replaced afterwards, because a writer may reject or correct such a path.
    let mut bytes = zip_of(&[("val2017/a.png", b"a"), ("val2017/aa/aa/aa/x", b"x")]);
    replace(&mut bytes, b"val2017/aa/aa/aa/x", b"val2017/../../../x");
    bytes
}

fn zip_with_a_link() -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default();
    archive
        .add_symlink("val2017/a.png", "/etc/passwd", options)
        .unwrap();
    archive.finish().unwrap().into_inner()
}

fn zip_with_a_damaged_file() -> Vec<u8> {
    let mut bytes = zip_of(&[("val2017/a.png", b"a"), ("val2017/b.png", b"the content")]);
    replace(&mut bytes, b"the content", b"The content");
    bytes
}

#[test]
fn zip_archives_with_path_traversal_or_damage_are_rejected_and_leave_nothing() {
    for (archive, expected) in [
        (
            zip_with_path_traversal(),
            "val2017/../../../x points outside of it",
        ),
        (zip_with_a_link(), "is a link"),
        (zip_with_a_damaged_file(), "val2017/b.png"),
        (zip_of(&[("other/a.png", b"a")]), "val2017 is not in it"),
        (b"no archive".to_vec(), "damaged"),
    ] {
        let mut files = coco();
        files.insert("zips/val2017.zip", archive);
        refused("coco", &files, "val2017", expected);
    }
}

/// Asserts that an archive with the right checksum is rejected and that nothing of it is left.
fn refused(name: &str, files: &Files, part: &str, expected: &str) {
    let directory = tempfile::tempdir().unwrap();
    let server = serve(files, 0);
    let source = stand_in(name, files, &server.url);
    let error = fetch(&source, directory.path(), &[part]).unwrap_err();
    assert!(matches!(error, FetchError::Archive { .. }), "{error}");
    let message = error.to_string();
    assert!(message.contains(expected), "{message}");
    assert_eq!(message.lines().count(), 1, "{message}");
    assert_eq!(names_in(directory.path()), [name]);
    assert!(names_in(&directory.path().join(name)).is_empty());
}

fn places365() -> Files {
    let image = image_file();
    Files::from([
        (
            "filelist_places365-standard.tar",
            tar_of(&[
                (
                    "categories_places365.txt",
                    b"/a/airfield 0\n/b/bar 1\n".as_slice(),
                ),
                (
                    "places365_train_standard.txt",
                    b"/a/airfield/00000001.jpg 0\n/b/bar/00000001.jpg 1\n",
                ),
                (
                    "places365_val.txt",
                    b"Places365_val_00000001.jpg 1\nPlaces365_val_00000002.jpg 0\n",
                ),
                ("places365_test.txt", b"Places365_test_00000001.jpg\n"),
            ]),
        ),
        (
            "val_256.tar",
            tar_of(&[
                ("val_256/Places365_val_00000001.jpg", image.as_slice()),
                ("val_256/Places365_val_00000002.jpg", &image),
            ]),
        ),
        (
            "train_256_places365standard.tar",
            tar_of(&[
                ("data_256/a/airfield/00000001.jpg", image.as_slice()),
                ("data_256/b/bar/00000001.jpg", &image),
            ]),
        ),
    ])
}

#[test]
fn places365_arrives_over_broken_connections_and_opens_by_its_name() {
    let directory = tempfile::tempdir().unwrap();
    let server = serve(&places365(), 1);
    let source = stand_in("places365", &places365(), &server.url);
    killed_when(&source, directory.path(), |progress| {
        progress.part == "train" && progress.step == FetchStep::Unpacking && progress.done > 0
    });
    assert_eq!(
        fetch(&source, directory.path(), &[]).unwrap().already_there,
        ["lists", "val"]
    );
    assert_eq!(
        names_in(&directory.path().join("places365")),
        [
            "categories_places365.txt",
            "data_256",
            "places365_train_standard.txt",
            "places365_val.txt",
            "val_256"
        ]
    );
    let dataset = LabeledName::parse("places365").unwrap();
    let (train, val) = dataset.open(Some(directory.path())).unwrap();
    assert_eq!(train.class_names(), ["airfield", "bar"]);
    assert_eq!((train.label(1), val.label(1)), (1, 0));
    assert_eq!(train.load_image(1).unwrap().dimensions(), (3, 2));
    assert!(
        fetch(&source, directory.path(), &[])
            .unwrap()
            .new
            .is_empty()
    );
    assert_eq!(server.range_starts().len(), 6);
}

fn tar_that_leads_out(path: &str) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    // The safe method to set a path rejects this one.
    header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
    header.set_size(1);
    header.set_cksum();
    let mut archive = tar::Builder::new(Vec::new());
    archive.append(&header, &b"x"[..]).unwrap();
    archive.into_inner().unwrap()
}

fn tar_with_a_link(kind: tar::EntryType) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(0);
    let mut archive = tar::Builder::new(Vec::new());
    archive
        .append_link(&mut header, "val_256/a.jpg", "/etc/passwd")
        .unwrap();
    archive.into_inner().unwrap()
}

#[test]
fn tar_archives_with_path_traversal_or_links_are_rejected_and_leave_nothing() {
    let mut cut = tar_of(&[("val_256/a.jpg", &[7; 5000])]);
    cut.truncate(3000);
    for (archive, expected) in [
        (
            tar_that_leads_out("val_256/../../../x"),
            "points outside of it",
        ),
        (tar_that_leads_out("../x"), "points outside of it"),
        (tar_that_leads_out("/x"), "points outside of it"),
        (tar_with_a_link(tar::EntryType::Symlink), "is a link"),
        (tar_with_a_link(tar::EntryType::Link), "is a link"),
        (cut, "damaged"),
    ] {
        let mut files = places365();
        files.insert("val_256.tar", archive);
        refused("places365", &files, "val", expected);
    }
}

#[test]
fn cifar_is_fetched_packed_and_opens_by_its_name() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/labeled");
    for (name, archive, classes) in [
        ("cifar10", "cifar-10-python.tar.gz", 10),
        ("cifar100", "cifar-100-python.tar.gz", 100),
    ] {
        let content = std::fs::read(fixtures.join(archive)).unwrap();
        let files = Files::from([(archive, content)]);
        let directory = tempfile::tempdir().unwrap();
        let server = serve(&files, 1);
        let source = stand_in(name, &files, &server.url);
        fetch(&source, directory.path(), &[]).unwrap();
        assert_eq!(names_in(&directory.path().join(name)), [archive]);
        let dataset = LabeledName::parse(name).unwrap();
        let val = dataset
            .open_split(Split::Val, Some(directory.path()))
            .unwrap();
        assert_eq!(val.class_names().len(), classes);
        assert!(!val.is_empty());
        let again = fetch(&source, directory.path(), &[]).unwrap();
        assert_eq!(again.already_there, ["python"]);
        assert_eq!(server.range_starts().len(), 2);
        std::fs::write(directory.path().join(name).join(archive), b"spoilt").unwrap();
        assert_eq!(
            fetch(&source, directory.path(), &[]).unwrap().new,
            ["python"]
        );
    }
}

#[test]
fn imagenets_list_is_found_beside_the_images_wherever_they_are() {
    let path = data_source("imagenet-val-list").unwrap().parts[0].path;
    let files = Files::from([(path, b"n15075141\nn01440764\n".to_vec())]);
    let server = serve(&files, 1);
    let source = stand_in("imagenet-val-list", &files, &server.url);
    for images in ["imagenet/val", "val"] {
        let directory = tempfile::tempdir().unwrap();
        let val = directory.path().join(images);
        std::fs::create_dir_all(&val).unwrap();
        std::fs::write(val.join("ILSVRC2012_val_00000001.JPEG"), b"").unwrap();
        fetch(&source, directory.path(), &[]).unwrap();
        let dataset = LabeledName::parse("imagenet").unwrap();
        let opened = dataset
            .open_split(Split::Val, Some(directory.path()))
            .unwrap();
        assert_eq!(opened.label(0), 999);
    }
}

#[test]
fn an_impossible_destination_is_rejected_before_the_download() {
    let directory = tempfile::tempdir().unwrap();
    let server = serve(&coco(), 0);
    let source = stand_in("coco", &coco(), &server.url);
    let mut huge = source.clone();
    if let Packing::Archive { bytes, .. } = &mut huge.parts[2].packing {
        *bytes = 1 << 60;
    }
    let message = fetch(&huge, directory.path(), &[]).unwrap_err().to_string();
    for part in ["1.15 EB", "coco", "not enough disk space"] {
        assert!(message.contains(part), "{message}");
    }
    assert!(names_in(directory.path()).is_empty());
    fetch(&huge, directory.path(), &["val2017"]).unwrap();

    let partial: PathBuf = directory.path().join("coco/train2017");
    std::fs::create_dir(&partial).unwrap();
    std::fs::write(partial.join("a.png"), b"").unwrap();
    let message = fetch(&source, directory.path(), &[])
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("train2017") && message.contains("with 1 of its 2 files"),
        "{message}"
    );
    assert_eq!(server.range_starts().len(), 1);
    std::fs::remove_file(partial.join("a.png")).unwrap();
    fetch(&source, directory.path(), &[]).unwrap();
    assert_eq!(names_in(&partial), ["a.png", "b.png"]);
}

#[test]
fn the_command_prints_instructions_for_imagenet() {
    let directory = tempfile::tempdir().unwrap();
    let data_dir = text(directory.path());
    let output = sedet(&["data", "download", "imagenet", "--data-dir", &data_dir]);
    assert_eq!(output.status.code(), Some(1));
    let stdout = String::from_utf8(output.stdout).unwrap();
    let directory_text = text(&directory.path().join("imagenet"));
    for part in [
        "image-net.org",
        "ILSVRC2012_img_val.tar",
        &directory_text,
        "sedet data download imagenet-val-list",
        "--dataset imagenet",
    ] {
        assert!(stdout.contains(part), "no '{part}' in: {stdout}");
    }
    assert_eq!(
        String::from_utf8(output.stderr).unwrap().trim(),
        "nothing was downloaded"
    );
    assert!(names_in(directory.path()).is_empty());
    is_wrong_usage(
        &["data", "download", "imagenet", "--only", "val"],
        &["imagenet", "--only"],
    );
    is_wrong_usage(
        &["data", "download", "blood-cells", "--only", "val"],
        &["blood-cells", "--only"],
    );
}

#[test]
fn the_command_lists_its_names_and_asks_the_mirror() {
    let output = sedet(&["data", "download", "cifar"]);
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8(output.stderr).unwrap();
    for name in [
        "cifar10",
        "cifar100",
        "coco",
        "places365",
        "imagenet-val-list",
        "imagenet",
        "blood-cells",
    ] {
        assert!(stderr.contains(name), "no '{name}' in: {stderr}");
    }
    let directory = tempfile::tempdir().unwrap();
    let data_dir = text(directory.path());
    // The smallest dataset, because a disk without space for the others is refused before the
    // mirror is asked.
    let list = data_source("imagenet-val-list").unwrap().parts[0].path;
    for (files, parts) in [
        (
            Files::from([(list, vec![7; 100])]),
            ["wrong length", "expected 500000", "got 100"],
        ),
        (Files::new(), ["imagenet_2012", "no such file", "404"]),
    ] {
        let server = serve(&files, 0);
        let url = format!("{}/{list}", server.url);
        let command = ["data", "download", "imagenet-val-list", "--mirror"];
        let options = [&server.url, "--data-dir", &data_dir];
        fails_with(
            &[&command[..], &options].concat(),
            &[&parts[..], &[&url]].concat(),
        );
    }
    let server = serve(&Files::new(), 0);
    let command = ["data", "download", "coco", "--mirror", &server.url];
    let command = [&command[..], &["--data-dir", &data_dir, "--only"]].concat();
    is_wrong_usage(
        &[&command[..], &["val2016"]].concat(),
        &["coco", "'val2016'", "val2017"],
    );
    let output = sedet(&[&command[..], &["val2017"]].concat());
    let stderr = String::from_utf8(output.stderr).unwrap();
    let first = stderr.lines().next().unwrap();
    assert!(
        first.contains("CC BY 4.0") && first.contains("815.59 MB in all"),
        "{stderr}"
    );
}

#[test]
fn a_missing_dataset_prints_how_to_download_it() {
    is_wrong_usage(
        &["train", "--dataset", "coco"],
        &["hint:", "`sedet data download coco` downloads it"],
    );
    let directory = tempfile::tempdir().unwrap();
    for (name, hint) in [
        ("places365", "`sedet data download places365 --data-dir"),
        ("imagenet", "`sedet data download imagenet"),
    ] {
        let data_dir = text(directory.path());
        fails_with(
            &["train", "--dataset", name, "--data-dir", &data_dir],
            &["hint:", hint],
        );
    }
}
