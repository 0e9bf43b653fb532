//! Downloads from a local server with the faults of real servers.

use crate::common::http_server::{Fault, Reply, Request, Server};
use crate::common::real_data;
use sedet::datasets::blood_cells::download_blood_cells;
use sedet::datasets::download::{Checksum, Download, DownloadError, sha256_hex};
use sedet::datasets::sources::FetchError;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

impl Server {
    fn download(&self, directory: &Path) -> Download {
        Download {
            checksum: Some(Checksum::Sha256(sha256_hex(&content()))),
            ..Download::new(
                format!("{}/file.bin", self.url),
                directory.join("deep/file.bin"),
            )
        }
    }
}

/// Returns content that is long enough for several reads.
fn content() -> Vec<u8> {
    (0..300_000u32).map(|i| (i * i % 251) as u8).collect()
}

fn names_in(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Asserts that the file is complete and nothing else is left.
fn assert_whole(download: &Download) {
    assert_eq!(std::fs::read(&download.destination).unwrap(), content());
    let directory = download.destination.parent().unwrap();
    assert_eq!(names_in(directory), ["file.bin"]);
}

fn run(download: &Download) -> Result<(), DownloadError> {
    download.run(&mut |_, _| ())
}

#[test]
fn a_file_is_fetched_once_with_progress_to_its_end() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(|request, _| Reply::file(request, &content(), "\"v1\""));
    let download = server.download(directory.path());
    let mut reported = Vec::new();
    download
        .run(&mut |done, total| reported.push((done, total)))
        .unwrap();
    assert_whole(&download);
    assert_eq!(reported[0], (0, Some(300_000)));
    assert_eq!(reported[reported.len() - 1], (300_000, Some(300_000)));
    assert!(reported.is_sorted());
    run(&download).unwrap();
    assert_eq!(server.range_starts(), [None], "the second run asks nothing");
    std::fs::write(&download.destination, b"spoilt").unwrap();
    run(&download).unwrap();
    assert_whole(&download);
}

#[test]
fn a_dropped_connection_is_continued_where_it_broke() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(|request, before| {
        let reply = Reply::file(request, &content(), "\"v1\"");
        match before {
            0 | 1 => reply.cut_after(100_000),
            _ => reply,
        }
    });
    let download = server.download(directory.path());
    run(&download).unwrap();
    assert_whole(&download);
    assert_eq!(
        server.range_starts(),
        [None, Some(100_000), Some(200_000)],
        "each request is for the missing bytes only"
    );
}

#[test]
fn a_later_run_continues_what_an_earlier_one_left() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(|request, before| match before {
        0 => Reply::file(request, &content(), "\"v1\"").cut_after(100_000),
        1..5 => Reply::status(503),
        _ => Reply::file(request, &content(), "\"v1\""),
    });
    let download = server.download(directory.path());
    let error = run(&download).unwrap_err();
    assert!(matches!(error, DownloadError::Network { .. }), "{error}");
    assert!(!download.destination.exists(), "a half file has no name");
    run(&download).unwrap();
    assert_whole(&download);
    assert_eq!(server.range_starts().last(), Some(&Some(100_000)));
}

#[test]
fn a_run_stopped_after_the_last_byte_only_needs_its_name() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(|request, _| Reply::file(request, &content(), "\"v1\""));
    let download = server.download(directory.path());
    let part = directory.path().join("deep/file.bin.part");
    std::fs::create_dir(directory.path().join("deep")).unwrap();
    std::fs::write(&part, content()).unwrap();
    let note = format!("{}\n\"v1\"\n", download.url);
    std::fs::write(part.with_extension("part.source"), note).unwrap();
    run(&download).unwrap();
    assert_whole(&download);
    assert_eq!(server.range_starts(), [Some(300_000)]);
}

#[test]
fn a_file_that_changed_on_the_server_starts_over() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(|request, before| match before {
        0 => Reply::file(request, &vec![7; 400_000], "\"old\"").cut_after(100_000),
        // Violates the protocol: responds to a range of the old version with bytes of the new one.
        1 => {
            let mut reply = Reply::file(request, &content(), "\"old\"");
            reply.headers[0] = "etag: \"new\"".into();
            reply
        }
        _ => Reply::file(request, &content(), "\"new\""),
    });
    let download = server.download(directory.path());
    run(&download).unwrap();
    assert_whole(&download);
    assert_eq!(server.range_starts(), [None, Some(100_000), None]);

    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(|request, before| match before {
        0 => Reply::file(request, &vec![7; 400_000], "\"old\"").cut_after(100_000),
        _ => Reply::file(request, &content(), "\"new\""),
    });
    let download = server.download(directory.path());
    run(&download).unwrap();
    assert_whole(&download);
    assert_eq!(server.range_starts(), [None, Some(100_000)]);
}

#[test]
fn a_server_without_ranges_or_validators_sends_everything_again() {
    for headers in [vec!["etag: \"v1\"".to_owned()], vec![]] {
        let directory = tempfile::tempdir().unwrap();
        let server = Server::start(move |_, before| Reply {
            headers: headers.clone(),
            cut: (before == 0).then_some(100_000),
            ..Reply::whole(&content())
        });
        let download = server.download(directory.path());
        run(&download).unwrap();
        assert_whole(&download);
    }
}

#[test]
fn a_checksum_stands_for_a_missing_validator() {
    for changes in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let server = Server::start(move |request, before| {
            let body = match (changes, before) {
                (true, 0) => vec![7; 300_000],
                _ => content(),
            };
            match before {
                0 => Reply::whole(&body).cut_after(100_000),
                _ => Reply::range(request, &body),
            }
        });
        let download = server.download(directory.path());
        let first = run(&download);
        assert_eq!(server.range_starts(), [None, Some(100_000)]);
        if changes {
            let error = first.unwrap_err();
            assert!(matches!(error, DownloadError::Checksum { .. }), "{error}");
            run(&download).unwrap();
        } else {
            first.unwrap();
        }
        assert_whole(&download);
    }
}

#[test]
fn a_server_that_always_drops_at_the_same_byte_is_reported() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(|_, _| Reply::whole(&content()).cut_after(1000));
    let error = run(&server.download(directory.path())).unwrap_err();
    assert!(matches!(error, DownloadError::Network { .. }), "{error}");
    assert!(error.to_string().contains(&server.url), "{error}");
    assert_eq!(server.range_starts().len(), 5);
}

#[test]
fn a_server_that_stops_sending_is_retried_and_finally_reported() {
    let directory = tempfile::tempdir().unwrap();
    let stall = |request: &Request| Reply {
        fault: Fault::Stall,
        ..Reply::file(request, &content(), "\"v1\"").cut_after(100_000)
    };
    let server = Server::start(move |request, before| match before {
        0 => stall(request),
        _ => Reply::file(request, &content(), "\"v1\""),
    });
    let mut download = server.download(directory.path());
    download.silence = Duration::from_millis(200);
    run(&download).unwrap();
    assert_whole(&download);
    assert_eq!(server.range_starts(), [None, Some(100_000)]);

    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(|_, _| Reply {
        fault: Fault::Stall,
        ..Reply::whole(&content()).cut_after(0)
    });
    let mut download = server.download(directory.path());
    download.silence = Duration::from_millis(50);
    let error = run(&download).unwrap_err();
    assert!(matches!(error, DownloadError::Network { .. }), "{error}");
    assert_eq!(server.range_starts().len(), 5);
}

#[test]
fn truncation_is_detected_without_a_content_length() {
    // Like archives that are created on request. Without a checksum, only the truncation is
    // detectable.
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(|_, before| match before {
        0 => Reply::whole(&content()).chunked().cut_after(100_000),
        _ => Reply::whole(&content()).chunked(),
    });
    let download = Download {
        checksum: None,
        ..server.download(directory.path())
    };
    let mut reported = Vec::new();
    download
        .run(&mut |done, total| reported.push((done, total)))
        .unwrap();
    assert_whole(&download);
    assert_eq!(server.range_starts().len(), 2);
    assert_eq!(reported.iter().filter(|(done, _)| *done == 0).count(), 2);
    assert!(reported.iter().all(|(_, total)| total.is_none()));
}

#[test]
fn a_date_serves_as_validator_where_there_is_no_strong_etag() {
    let [old, new] = [
        "Tue, 03 Jun 2025 10:00:00 GMT",
        "Wed, 04 Jun 2025 10:00:00 GMT",
    ];
    for changes in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let server = Server::start(move |request, before| {
            let (date, body) = match (changes, before) {
                (true, 0) => (old, vec![7; 300_000]),
                (true, _) => (new, content()),
                (false, _) => (old, content()),
            };
            let mut reply = match before {
                0 => Reply::whole(&body).cut_after(100_000),
                // Ignores `If-Range`, in violation of the protocol.
                _ => Reply::range(request, &body),
            };
            reply.headers.retain(|header| !header.starts_with("etag"));
            reply.headers.push("etag: W/\"weak\"".into());
            reply.headers.push(format!("last-modified: {date}"));
            reply
        });
        let download = server.download(directory.path());
        run(&download).unwrap();
        assert_whole(&download);
        let starts = server.range_starts();
        assert_eq!(starts[..2], [None, Some(100_000)]);
        assert_eq!(starts.len(), if changes { 3 } else { 2 });
        let asked = server.seen.lock().unwrap()[1].if_range.clone();
        assert_eq!(asked.as_deref(), Some(old));
    }
}

#[test]
fn a_file_of_another_length_than_expected_is_refused_and_leaves_nothing() {
    for (chunked, expected) in [
        (false, 299_999),
        (false, 300_001),
        (true, 299_999),
        (true, 300_001),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let server = Server::start(move |request, _| Reply {
            chunked,
            ..Reply::file(request, &content(), "\"v1\"")
        });
        let mut download = Download {
            checksum: None,
            expected_bytes: Some(expected),
            ..server.download(directory.path())
        };
        let message = run(&download).unwrap_err().to_string();
        let expected = format!("wrong length, expected {expected} bytes, got 300000");
        assert!(message.contains(&expected), "{message}");
        assert!(message.starts_with(&download.url), "{message}");
        assert!(names_in(&directory.path().join("deep")).is_empty());
        download.expected_bytes = Some(300_000);
        run(&download).unwrap();
        assert_whole(&download);
        // A file of another length is not the requested one.
        std::fs::write(&download.destination, b"short").unwrap();
        run(&download).unwrap();
        assert_whole(&download);
    }
}

#[test]
fn the_proxy_of_the_environment_is_used() {
    // Receives a request for a tunnel to a host that does not exist, and rejects it.
    let proxy = Server::start(|_, _| Reply::status(403));
    let directory = tempfile::tempdir().unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_sedet"));
    for name in ["ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"] {
        command.env_remove(name).env_remove(name.to_lowercase());
    }
    let output = command
        .args(["data", "download", "blood-cells"])
        .args(["--mirror", "http://mirror.invalid"])
        .arg("--data-dir")
        .arg(directory.path())
        .env("HTTP_PROXY", &proxy.url)
        .output()
        .unwrap();
    assert!(!output.status.success());
    let console = String::from_utf8_lossy(&output.stderr);
    assert!(
        console.contains("http://mirror.invalid/Shenggan"),
        "{console}"
    );
    let seen = proxy.seen.lock().unwrap();
    assert!(!seen.is_empty(), "the proxy received no request: {console}");
    assert!(seen[0].path.contains("mirror.invalid"), "{:?}", seen[0]);
}

#[test]
fn wrong_bytes_are_removed_and_named() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(|request, _| Reply::file(request, b"wrong", "\"v1\""));
    let download = server.download(directory.path());
    let message = run(&download).unwrap_err().to_string();
    for part in [
        &download.url,
        "wrong checksum",
        &sha256_hex(b"wrong"),
        "removed",
    ] {
        assert!(message.contains(part), "{message}");
    }
    assert!(names_in(&directory.path().join("deep")).is_empty());
}

#[test]
fn a_file_longer_than_allowed_is_refused_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(|request, _| Reply::file(request, &content(), "\"v1\""));
    let mut download = server.download(directory.path());
    download.max_bytes = Some(299_999);
    let error = run(&download).unwrap_err();
    assert!(matches!(error, DownloadError::TooLong { .. }), "{error}");
    assert!(names_in(&directory.path().join("deep")).is_empty());
    download.max_bytes = Some(300_000);
    run(&download).unwrap();
}

#[test]
fn permanent_errors_fail_at_once_in_one_line_with_the_url() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(|request, _| {
        Reply::status(if request.path == "/file.bin" {
            404
        } else {
            403
        })
    });
    let missing = server.download(directory.path());
    let refused = Download {
        url: format!("{}/other", server.url),
        ..missing.clone()
    };
    let no_address = Download {
        url: "file.bin".into(),
        ..missing.clone()
    };
    std::fs::write(directory.path().join("a_file"), b"").unwrap();
    let no_directory = Download {
        destination: directory.path().join("a_file/file.bin"),
        ..missing.clone()
    };
    for (download, expected) in [
        (&missing, "no such file (404)"),
        (&refused, "status 403"),
        (&no_address, "not an address"),
        (&no_directory, "cannot write"),
    ] {
        let message = run(download).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
        assert!(message.starts_with(&download.url), "{message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
    assert_eq!(server.range_starts().len(), 2, "no request was repeated");
}

#[test]
fn a_missing_server_is_a_network_error_that_counts_the_attempts() {
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let directory = tempfile::tempdir().unwrap();
    let download = Download::new(
        format!("http://{port}/file.bin"),
        directory.path().join("file.bin"),
    );
    let message = run(&download).unwrap_err().to_string();
    assert!(message.starts_with(&download.url), "{message}");
    assert!(message.ends_with("attempts"), "{message}");
}

/// Returns a `.tar.gz` of `files` inside one directory, as in GitHub's archives.
fn tar_gz(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut archive = tar::Builder::new(encoder);
    // The other entries of GitHub's archives: the commit, directories, other files.
    let note = b"52 comment=d272fb14cdff6e473fafeeeba32aba5f560e9e43\n";
    let mut global = tar::Header::new_ustar();
    global.set_entry_type(tar::EntryType::XGlobalHeader);
    global.set_size(note.len() as u64);
    archive
        .append_data(&mut global, "pax_global_header", &note[..])
        .unwrap();
    for directory in ["BCCD_Dataset-d272fb1/", "BCCD_Dataset-d272fb1/BCCD/"] {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_size(0);
        archive
            .append_data(&mut header, directory, &b""[..])
            .unwrap();
    }
    for name in ["README.md", "BCCD/.DS_Store", "BCCD/Annotations/.DS_Store"] {
        let mut header = tar::Header::new_ustar();
        header.set_size(3);
        let path = format!("BCCD_Dataset-d272fb1/{name}");
        archive
            .append_data(&mut header, path, &[0, 1, 2][..])
            .unwrap();
    }
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        let path = format!("BCCD_Dataset-d272fb1/{name}");
        archive.append_data(&mut header, path, &bytes[..]).unwrap();
    }
    archive.into_inner().unwrap().finish().unwrap()
}

#[test]
fn an_archive_that_is_not_the_blood_cells_leaves_nothing_behind() {
    let image = {
        let mut bytes = std::io::Cursor::new(Vec::new());
        let black = image::RgbImage::new(8, 8);
        black
            .write_to(&mut bytes, image::ImageFormat::Jpeg)
            .unwrap();
        bytes.into_inner()
    };
    let xml = "<annotation><filename>a</filename><size><width>8</width><height>8</height></size></annotation>";
    let list = |split: &str| format!("BCCD/ImageSets/Main/{split}.txt");
    let files = [
        ("LICENSE".into(), b"MIT".to_vec()),
        (list("train"), b"a\n".to_vec()),
        (list("val"), vec![]),
        (list("test"), vec![]),
        ("BCCD/Annotations/a.xml".into(), xml.into()),
        ("BCCD/JPEGImages/a.jpg".into(), image),
    ];
    for (archive, expected) in [
        (b"not an archive".to_vec(), "broken"),
        (tar_gz(&files[..5]), "BCCD/JPEGImages/a.jpg: "),
        (tar_gz(&files), "the images are not those of BCCD"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let server = Server::start(move |request, _| Reply::file(request, &archive, "\"v1\""));
        let error =
            download_blood_cells(directory.path(), &server.url, &mut |_, _| ()).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert!(names_in(directory.path()).is_empty());
    }
}

#[test]
fn the_directory_of_another_dataset_is_unchanged() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("train.json"), b"mine").unwrap();
    let error =
        download_blood_cells(directory.path(), "http://unused", &mut |_, _| ()).unwrap_err();
    assert!(matches!(error, FetchError::OtherDataset { .. }), "{error}");
    assert_eq!(names_in(directory.path()), ["train.json"]);
}

/// Returns BCCD in the layout of its repository, rebuilt from the converted files in `real`.
fn repository_files(real: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = vec![(
        "LICENSE".to_owned(),
        std::fs::read(real.join("LICENSE")).unwrap(),
    )];
    for split in ["train", "val", "test"] {
        let coco = reference(real, split);
        let mut list = String::new();
        // In reverse: the order of the list must not matter.
        for image in coco["images"].as_array().unwrap().iter().rev() {
            let file_name = image["file_name"].as_str().unwrap();
            let stem = file_name.strip_suffix(".jpg").unwrap();
            list += &format!("{stem}\n");
            let mut xml = format!(
                "<annotation verified=\"no\"><filename>{stem}</filename><size><width>{}</width><height>{}</height><depth>3</depth></size>",
                image["width"], image["height"]
            );
            let mut object = |name: &str, x1: f64, y1: f64, x2: f64, y2: f64| {
                xml += &format!(
                    "<object><name>{name}</name><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
                );
            };
            for annotation in coco["annotations"].as_array().unwrap() {
                if annotation["image_id"] != image["id"] {
                    continue;
                }
                let [x, y, w, h] = [0, 1, 2, 3].map(|i| annotation["bbox"][i].as_f64().unwrap());
                let class = annotation["category_id"].as_u64().unwrap() as usize;
                object(["RBC", "WBC", "Platelets"][class - 1], x, y, x + w, y + h);
            }
            // The repository also has such degenerate boxes; they must be dropped.
            object("RBC", 9.0, 9.0, 9.0, 30.0);
            xml += "</annotation>";
            files.push((format!("BCCD/Annotations/{stem}.xml"), xml.into_bytes()));
            let image = std::fs::read(real.join("images").join(file_name)).unwrap();
            files.push((format!("BCCD/JPEGImages/{file_name}"), image));
        }
        files.push((format!("BCCD/ImageSets/Main/{split}.txt"), list.into()));
    }
    files
}

fn reference(real: &Path, split: &str) -> serde_json::Value {
    let path = real.join(format!("instances_{split}.json"));
    let mut reference: serde_json::Value =
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    // The reference has empty outlines and a supercategory, sedet writes neither.
    for (list, key) in [
        ("annotations", "segmentation"),
        ("categories", "supercategory"),
    ] {
        for entry in reference[list].as_array_mut().unwrap() {
            entry.as_object_mut().unwrap().remove(key);
        }
    }
    reference
}

#[test]
#[ignore = "needs SEDET_REAL_DATA"]
fn blood_cells_of_real_data_arrive_over_a_broken_connection_and_equal_their_reference() {
    let real = real_data("bccd");
    let archive = tar_gz(&repository_files(&real));
    let server = Server::start(move |request, before| {
        let reply = Reply::file(request, &archive, "\"v1\"");
        match before {
            0 => reply.cut_after(1_000_000),
            _ => reply,
        }
    });
    let directory = tempfile::tempdir().unwrap();
    let fetch = || download_blood_cells(directory.path(), &server.url, &mut |_, _| ()).unwrap();
    let summary = fetch();
    assert_eq!(summary.images, [205, 87, 72]);
    assert_eq!(summary.boxes, [2804, 1137, 945]);
    assert!(!summary.already_there);
    assert_eq!(summary.degenerate_boxes, Some(364));
    let source = std::fs::read_to_string(directory.path().join("SOURCE.txt")).unwrap();
    assert!(source.contains("364 boxes with a side under"), "{source}");
    assert_eq!(
        names_in(directory.path()),
        [
            "LICENSE",
            "SOURCE.txt",
            "images",
            "test.json",
            "train.json",
            "val.json"
        ]
    );
    assert_eq!(server.range_starts(), [None, Some(1_000_000)]);
    assert!(
        server.seen.lock().unwrap()[0]
            .path
            .starts_with("/Shenggan/BCCD_Dataset/tar.gz/d272fb14")
    );
    for split in ["train", "val", "test"] {
        let path = directory.path().join(format!("{split}.json"));
        let actual: serde_json::Value =
            serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let reference_file = reference(&real, split);
        for part in ["images", "annotations", "categories"] {
            assert!(
                actual[part] == reference_file[part],
                "{part} of {split} differ"
            );
        }
    }
    // The state of a run that is killed just before it removes the archive.
    std::fs::write(directory.path().join("bccd.tar.gz"), b"left over").unwrap();
    assert!(fetch().already_there);
    assert!(!directory.path().join("bccd.tar.gz").exists());
    assert_eq!(
        server.range_starts().len(),
        2,
        "nothing was requested again"
    );

    // A damaged image is detected and downloaded again.
    let spoilt = directory.path().join("images/BloodImage_00001.jpg");
    std::fs::write(&spoilt, b"").unwrap();
    assert!(!fetch().already_there);
    assert!(std::fs::metadata(&spoilt).unwrap().len() > 0);
}
