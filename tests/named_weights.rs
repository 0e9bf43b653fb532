//! Published weights by name: the table, downloads from a local server, and names in place of files.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::common::command::text;
use crate::common::fixture_path;
use crate::common::http_server::{Reply, Request, Server};
use crate::common::third_party::{tensors_of, to_safetensors};
use sedet::datasets::download::sha256_hex;
use sedet::loading::transforms::ResizeMethod;
use sedet::weights::load::load_weights;
use sedet::weights::named::NamedWeights;

/// Weights whose file name contains no checksum, and the path of the file.
const UNCHECKED: &str = "legacy-seresnext26-32x4d";
const UNCHECKED_PATH: &str = "/rwightman/pytorch-image-models/releases/download/v0.1-weights/seresnext26_32x4d-65ebdb501.pth";
const DETECTOR: &str = "fasterrcnn-resnet50-fpn-coco";

/// A data directory and a current directory of a user.
struct User(tempfile::TempDir);

impl User {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("work")).unwrap();
        Self(directory)
    }

    fn work(&self) -> PathBuf {
        self.0.path().join("work")
    }

    /// Returns a file in the directory of downloaded weights.
    fn stored(&self, name: &str) -> PathBuf {
        self.0.path().join("data/weights").join(name)
    }

    /// Returns the names of the files in the directory of downloaded weights.
    fn stored_names(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.stored("")) else {
            return Vec::new();
        };
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sedet"));
        for name in ["ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY"] {
            command.env_remove(name).env_remove(name.to_lowercase());
        }
        command
            .current_dir(self.work())
            .env("SEDET_DATA", self.0.path().join("data"))
            .env("XDG_CACHE_HOME", self.0.path().join("cache"));
        command
    }

    /// Runs the command without a terminal and returns its exit code, stdout and stderr.
    fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let output = self.command().args(arguments).output().unwrap();
        let Output {
            status,
            stdout,
            stderr,
        } = output;
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (status.code(), text(stdout), text(stderr))
    }

    fn download(&self, server: &Server, name: &str) -> (Option<i32>, String) {
        let arguments = ["weights", "download", name, "--mirror", &server.url];
        let (code, _, console) = self.run(&arguments);
        (code, console)
    }

    /// Stores a file as if it had been downloaded.
    fn store(&self, name: &str, bytes: &[u8]) {
        std::fs::create_dir_all(self.stored("")).unwrap();
        std::fs::write(self.stored(name), bytes).unwrap();
        let record = format!("{}  {name}\n", sha256_hex(bytes));
        std::fs::write(self.stored(&format!("{name}.sha256")), record).unwrap();
    }
}

/// A small network with the tensor names of the unchecked weights.
fn small_network() -> Vec<u8> {
    std::fs::read(fixture_path("layouts/cadene_seresnet.pth")).unwrap()
}

/// Serves a file under the path of the unchecked weights.
fn serve(body: Vec<u8>) -> Server {
    Server::start(move |request, _| at_its_path(request, &body))
}

fn at_its_path(request: &Request, body: &[u8]) -> Reply {
    if request.path == UNCHECKED_PATH {
        Reply::file(request, body, "\"v1\"")
    } else {
        Reply::status(404)
    }
}

#[test]
fn the_list_fits_a_small_terminal_and_has_every_name() {
    let user = User::new();
    let (code, table, console) = user.run(&["weights", "list"]);
    assert_eq!(code, Some(0), "{console}");
    for line in table.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    for name in NamedWeights::names() {
        assert!(table.lines().any(|line| line.starts_with(name)), "{name}");
    }
    let (_, json, _) = user.run(&["weights", "list", "--json"]);
    let rows: Vec<serde_json::Value> = serde_json::from_str(&json).unwrap();
    assert_eq!(rows.len(), NamedWeights::all().len());
    let detector = rows.iter().find(|row| row["name"] == DETECTOR).unwrap();
    assert_eq!(detector["result"]["box_ap"], 37.0);
    assert_eq!(detector["license"], "BSD-3-Clause");
    assert_eq!(detector["local"], false);
    let source = &detector["sources"][0];
    assert_eq!(
        source["url"],
        "https://download.pytorch.org/models/fasterrcnn_resnet50_fpn_coco-258fb6c6.pth"
    );
    assert_eq!(source["checksum"]["first_digits"], "258fb6c6");
    user.store("seresnet50-a1.safetensors", b"any");
    let (_, table, _) = user.run(&["weights", "list"]);
    let local: Vec<&str> = table.lines().filter(|line| line.ends_with("yes")).collect();
    assert_eq!(local.len(), 1, "{table}");
    assert!(local[0].starts_with("seresnet50-a1 "), "{table}");
}

#[test]
fn the_list_shows_which_local_files_are_not_the_right_ones() {
    let user = User::new();
    let row = |table: &str, name: &str| {
        let found = table.lines().find(|line| line.starts_with(name)).unwrap();
        found.split_whitespace().last().unwrap().to_string()
    };
    user.store("seresnet50-a1.safetensors", b"any");
    let record = user.stored("seresnet50-a1.safetensors.sha256");
    let before = std::fs::read_to_string(&record).unwrap();
    let (_, table, _) = user.run(&["weights", "list"]);
    assert_eq!(row(&table, "seresnet50-a1 "), "yes");
    // The comparison is recorded, so that the next list does not read the file.
    let after = std::fs::read_to_string(&record).unwrap();
    let stamp = after.strip_prefix(&before).unwrap();
    assert!(
        stamp.starts_with("# compared: 3 bytes, modified "),
        "{stamp}"
    );
    let file = user.stored("seresnet50-a1.safetensors");
    let modified = std::fs::metadata(&file).unwrap().modified().unwrap();
    let times = std::fs::FileTimes::new().set_modified(modified);
    std::fs::write(&file, b"ant").unwrap();
    let opened = std::fs::File::options().append(true).open(&file).unwrap();
    opened.set_times(times).unwrap();
    let (_, table, _) = user.run(&["weights", "list"]);
    assert_eq!(row(&table, "seresnet50-a1 "), "yes");

    // Changed after its download, and copied by hand under the name of a file with a published checksum.
    std::fs::write(&file, b"other").unwrap();
    std::fs::write(user.stored("resnet18-imagenet-v1.pth"), b"mine").unwrap();
    let (code, table, console) = user.run(&["-q", "weights", "list"]);
    assert_eq!(code, Some(0), "{console}");
    assert!(
        table.lines().all(|line| line.chars().count() <= 80),
        "{table}"
    );
    for name in ["seresnet50-a1 ", "resnet18-imagenet-v1 "] {
        assert_eq!(row(&table, name), "wrong");
    }
    assert!(
        console.contains("hint: replace by the published file: sedet weights download resnet18-imagenet-v1 seresnet50-a1\n"),
        "{console}"
    );
    let (_, json, _) = user.run(&["weights", "list", "--json"]);
    let rows: Vec<serde_json::Value> = serde_json::from_str(&json).unwrap();
    let found = rows.iter().filter(|row| row["changed"] == true);
    assert_eq!(found.count(), 2);
    assert!(rows.iter().all(|row| row["local"] == false));
}

/// A text whose MD5 begins with the six digits that detectron2 publishes for this file.
const WITH_PUBLISHED_DIGITS: (&str, &str) = ("detectron2-r50-fpn-1x", "copied by hand 6622273");

#[test]
fn a_file_that_was_copied_by_hand_is_verified_and_adopted_or_refused() {
    let user = User::new();
    std::fs::create_dir_all(user.stored("")).unwrap();
    let (name, content) = WITH_PUBLISHED_DIGITS;
    std::fs::write(user.stored(&format!("{name}.pkl")), content).unwrap();
    let (code, _, console) = user.run(&["weights", "download", name]);
    assert_eq!(code, Some(0), "{console}");
    for part in ["published MD5 b275ba... confirmed", "(already there)"] {
        assert!(console.contains(part), "no '{part}' in: {console}");
    }
    let record = std::fs::read_to_string(user.stored(&format!("{name}.pkl.sha256"))).unwrap();
    assert!(
        record.starts_with(&sha256_hex(content.as_bytes())),
        "{record}"
    );
    // From now on it is known.
    let (_, _, console) = user.run(&["weights", "download", name]);
    assert!(!console.contains("confirmed"), "{console}");

    // Nothing shows whether this one is right.
    std::fs::write(user.stored(&format!("{UNCHECKED}.pth")), small_network()).unwrap();
    let (_, table, _) = user.run(&["weights", "list"]);
    let row = table
        .lines()
        .find(|line| line.starts_with(UNCHECKED))
        .unwrap();
    assert!(row.ends_with(" yes?"), "{row}");
    let (code, _, console) = user.run(&["-q", "weights", "inspect", UNCHECKED]);
    assert_eq!(code, Some(0), "{console}");
    assert!(
        console.contains(&format!("{UNCHECKED}.pth: SHA-256 "))
            && console.contains("none is published"),
        "{console}"
    );

    let wrong = "resnet18-imagenet-v1";
    let file = user.stored(&format!("{wrong}.pth"));
    std::fs::write(&file, "mine").unwrap();
    let (code, _, console) = user.run(&["weights", "inspect", wrong]);
    assert_eq!(code, Some(1), "{console}");
    let found = sha256_hex(b"mine");
    for part in [
        format!(
            "not the published file: its SHA-256 is {found}, that of {wrong} begins with f37072fd"
        ),
        format!(
            "hint: replace it by the published file: sedet weights download {wrong}; or give its path"
        ),
    ] {
        assert!(console.contains(&part), "no '{part}' in: {console}");
    }
    // A download that fails leaves it.
    let server = Server::start(|_, _| Reply::status(404));
    let (code, console) = user.download(&server, wrong);
    assert_eq!(code, Some(1), "{console}");
    assert!(console.contains("a download replaces it"), "{console}");
    assert_eq!(std::fs::read(&file).unwrap(), b"mine");
}

#[test]
fn a_download_is_recorded_and_its_facts_are_used() {
    let user = User::new();
    let server = Server::start(|request, before| {
        let reply = at_its_path(request, &small_network());
        if before == 0 {
            reply.cut_after(50_000)
        } else {
            reply
        }
    });
    let (code, console) = user.download(&server, UNCHECKED);
    assert_eq!(code, Some(0), "{console}");
    let hash = sha256_hex(&small_network());
    for part in [
        "timm, license Apache-2.0",
        "ImageNet",
        &hash,
        "none is published",
    ] {
        assert!(console.contains(part), "no '{part}' in: {console}");
    }
    assert_eq!(server.range_starts(), [None, Some(50_000)]);
    let file = format!("{UNCHECKED}.pth");
    assert_eq!(
        user.stored_names(),
        [file.clone(), format!("{file}.sha256")]
    );
    let record = std::fs::read_to_string(user.stored(&format!("{file}.sha256"))).unwrap();
    assert!(
        record.starts_with(&format!("{hash}  {file}\n# compared: ")),
        "{record}"
    );

    // The layout alone would mean a bilinear filter, and would be an assumption.
    let loaded = load_weights(&user.stored(&file), None).unwrap();
    let preprocess = loaded.spec.preprocess;
    assert_eq!(preprocess.resize_method, ResizeMethod::PillowBicubic);
    assert_eq!(
        (preprocess.min_size, preprocess.center_crop),
        (256, Some(224))
    );
    assert!(loaded.report.unwrap().assumptions.is_empty());

    let (code, console) = user.download(&server, UNCHECKED);
    assert!(
        code == Some(0) && console.contains("(already there)"),
        "{console}"
    );
    assert_eq!(
        server.range_starts().len(),
        2,
        "nothing was requested again"
    );
    let (code, table, console) = user.run(&["weights", "inspect", UNCHECKED]);
    assert_eq!(code, Some(0), "{console}");
    assert!(table.contains("Cadene"), "{table}");
    let import = [
        "weights",
        "import",
        UNCHECKED,
        "--output",
        "imported.safetensors",
    ];
    let (code, _, console) = user.run(&import);
    assert_eq!(code, Some(0), "{console}");
    assert!(!console.contains("assumed"), "{console}");
}

#[test]
fn a_half_download_of_an_earlier_run_is_resumed() {
    let user = User::new();
    let server = serve(small_network());
    std::fs::create_dir_all(user.stored("")).unwrap();
    let part = user.stored(&format!("{UNCHECKED}.pth.part"));
    std::fs::write(&part, &small_network()[..70_000]).unwrap();
    let source = format!("{}{UNCHECKED_PATH}\n\"v1\"\n", server.url);
    std::fs::write(format!("{}.source", part.display()), source).unwrap();
    let (code, console) = user.download(&server, UNCHECKED);
    assert_eq!(code, Some(0), "{console}");
    assert_eq!(server.range_starts(), [Some(70_000)]);
    let file = std::fs::read(user.stored(&format!("{UNCHECKED}.pth"))).unwrap();
    assert!(file == small_network());
}

#[test]
fn a_file_that_changed_is_refused_and_downloaded_again() {
    let user = User::new();
    let server = serve(small_network());
    let (code, console) = user.download(&server, UNCHECKED);
    assert_eq!(code, Some(0), "{console}");
    let file = user.stored(&format!("{UNCHECKED}.pth"));
    let mut bytes = small_network();
    bytes[60_000] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    let (code, _, console) = user.run(&["weights", "inspect", UNCHECKED]);
    assert_eq!(code, Some(1), "{console}");
    for part in [
        "changed since its download".to_string(),
        sha256_hex(&bytes),
        format!("hint: download it again: sedet weights download {UNCHECKED}"),
    ] {
        assert!(console.contains(&part), "no '{part}' in: {console}");
    }
    let (code, console) = user.download(&server, UNCHECKED);
    assert_eq!(code, Some(0), "{console}");
    assert!(std::fs::read(&file).unwrap() == small_network());

    // Another file than at the first download.
    std::fs::remove_file(&file).unwrap();
    let other = serve(bytes);
    let (code, console) = user.download(&other, UNCHECKED);
    assert_eq!(code, Some(1), "{console}");
    assert!(
        console.contains("not the file of the earlier download"),
        "{console}"
    );
    assert!(
        console.contains(&format!("{UNCHECKED}.pth.sha256")),
        "{console}"
    );
    assert!(!file.exists());
}

#[test]
fn a_file_without_the_published_checksum_is_refused() {
    let user = User::new();
    let server = Server::start(|request, _| Reply::file(request, b"wrong", "\"v1\""));
    for (name, algorithm, digits) in [
        ("resnet18-imagenet-v1", "SHA-256", "f37072fd"),
        ("detectron2-r50-fpn-1x", "MD5", "b275ba"),
    ] {
        let (code, console) = user.download(&server, name);
        assert_eq!(code, Some(1), "{console}");
        for part in [
            format!(
                "error: {name}: the mirror {} does not have the file: ",
                server.url
            ),
            format!("(another file: its {algorithm} is "),
            format!(", the published one begins with {digits})"),
            format!(
                "hint: check the mirror, or download from the publisher: sedet weights download {name}\n"
            ),
        ] {
            assert!(console.contains(&part), "no '{part}' in: {console}");
        }
    }
    assert!(user.stored_names().is_empty());
    let missing = Server::start(|_, _| Reply::status(404));
    let (code, console) = user.download(&missing, "seresnet50-a1");
    assert_eq!(code, Some(1), "{console}");
    assert_eq!(
        console.matches("(no such file, 404)").count(),
        3,
        "{console}"
    );
    let paths: Vec<String> = missing
        .seen
        .lock()
        .unwrap()
        .iter()
        .map(|r| r.path.clone())
        .collect();
    assert_eq!(
        paths,
        [
            "/huggingface/pytorch-image-models/releases/download/v0.1-rsb-weights/seresnet50_a1_0-ffa00869.pth",
            "/seresnet50_a1_0-ffa00869.pth",
            "/timm/seresnet50.a1_in1k/resolve/main/model.safetensors",
        ]
    );
    for path in paths {
        let address = format!("{}{path}", missing.url);
        assert!(console.contains(&address), "no {address} in: {console}");
    }
}

/// The question before a download, asked on a terminal that `script` of util-linux provides.
#[cfg(target_os = "linux")]
mod on_a_terminal {
    use std::io::{Read as _, Write as _};
    use std::process::Stdio;

    use super::*;

    /// Runs a command on a terminal, answers its question, and returns its exit code and what the terminal showed.
    fn answered(user: &User, arguments: &str, answer: &[u8]) -> (Option<i32>, String) {
        // Ctrl-C has to work also where the tests run in the background, with interrupts ignored.
        let command = format!(
            "env --default-signal=INT {} {arguments}",
            env!("CARGO_BIN_EXE_sedet")
        );
        let sedet = user.command();
        let mut script = Command::new("script");
        script.args(["--quiet", "--return", "--command", &command, "/dev/null"]);
        script.current_dir(user.work()).env("TERM", "dumb");
        for (name, value) in sedet.get_envs() {
            match value {
                Some(value) => script.env(name, value),
                None => script.env_remove(name),
            };
        }
        script.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = script.spawn().expect("script of util-linux is installed");
        let mut input = child.stdin.take().unwrap();
        let mut output = child.stdout.take().unwrap();
        let (mut shown, mut byte) = (Vec::new(), [0]);
        // An answer before the question could be read, or interrupt, before the command begins.
        while output.read(&mut byte).unwrap() > 0 {
            shown.push(byte[0]);
            if shown.ends_with(b"? [Y/n] ") {
                input.write_all(answer).unwrap();
                input.flush().unwrap();
            }
        }
        // At the end of its own input `script` would end that of the command.
        let status = child.wait().unwrap();
        drop(input);
        let shown = String::from_utf8_lossy(&shown).replace('\r', "");
        (status.code(), shown)
    }

    #[test]
    fn a_download_begins_after_a_yes_only() {
        let server = serve(small_network());
        let download = format!("weights download {UNCHECKED} --mirror {}", server.url);
        for (answer, agrees) in [
            (&b"n\n"[..], false),
            (b"later\n", false),
            // Ctrl-D and Ctrl-C.
            (b"\x04", false),
            (b"\x03", false),
            (b"y\n", true),
            (b"\n", true),
        ] {
            let user = User::new();
            let (code, shown) = answered(&user, &download, answer);
            assert!(shown.contains("download 67 MB to "), "{shown}");
            assert!(shown.contains("? [Y/n] "), "{shown}");
            assert_eq!(code == Some(0), agrees, "{answer:?}: {code:?} {shown}");
            let is_there = user.stored(&format!("{UNCHECKED}.pth")).exists();
            assert_eq!(is_there, agrees, "{answer:?}: {shown}");
        }
        assert_eq!(server.range_starts().len(), 2);
    }

    #[test]
    fn a_name_in_place_of_a_file_is_asked_for_and_refused_with_the_command() {
        let user = User::new();
        let inspect = format!("weights inspect {UNCHECKED}");
        let (code, shown) = answered(&user, &inspect, b"n\n");
        assert_eq!(code, Some(1), "{shown}");
        assert!(
            shown.contains(&format!("\nerror: {UNCHECKED}: not downloaded\n")),
            "{shown}"
        );
        assert!(
            shown.contains(&format!("sedet weights download {UNCHECKED}")),
            "{shown}"
        );
    }
}

#[test]
fn without_a_terminal_a_name_is_no_reason_to_download() {
    let user = User::new();
    image::RgbImage::new(40, 30)
        .save(user.work().join("a.png"))
        .unwrap();
    let commands: [&[&str]; 6] = [
        &["predict", "a.png", "--weights", DETECTOR],
        &["train", "--dataset", "shapes", "--weights", DETECTOR],
        &["eval", "--dataset", "shapes", "--checkpoint", DETECTOR],
        &[
            "excite",
            "--image",
            "a.png",
            "--output",
            "o",
            "--checkpoint",
            DETECTOR,
        ],
        &["weights", "inspect", DETECTOR],
        &[
            "weights",
            "export",
            DETECTOR,
            "--format",
            "timm",
            "--output",
            "o.safetensors",
        ],
    ];
    for arguments in commands {
        let (code, _, console) = user.run(arguments);
        assert_eq!(code, Some(1), "{arguments:?}: {console}");
        let expected = format!(
            "error: {DETECTOR}: not downloaded\nhint: download it (168 MB, license BSD-3-Clause): sedet \
             weights download {DETECTOR}\n"
        );
        assert!(console.ends_with(&expected), "{arguments:?}: {console}");
    }
    assert!(user.stored_names().is_empty());
    // Mesa keeps its shaders beside it.
    assert!(!user.0.path().join("cache/sedet").exists());
}

#[test]
fn a_command_without_weights_or_with_an_unknown_name_says_what_to_type() {
    let user = User::new();
    let (code, _, console) = user.run(&["predict", "my photo.jpg"]);
    assert_eq!(code, Some(2), "{console}");
    let hint = format!("sedet predict 'my photo.jpg' --weights {DETECTOR}");
    assert!(console.contains(&hint), "{console}");
    for arguments in [
        ["weights", "inspect", "seresnet50-a9"],
        ["weights", "download", "seresnet50-a9"],
    ] {
        let (code, _, console) = user.run(&arguments);
        assert_eq!(code, Some(2), "{console}");
        assert!(console.contains("did you mean 'seresnet50-a"), "{console}");
    }
    // A file of that name is the one that is meant.
    std::fs::write(user.work().join(DETECTOR), "hello").unwrap();
    let (code, _, console) = user.run(&["weights", "inspect", DETECTOR]);
    assert_eq!(code, Some(1), "{console}");
    assert!(console.contains("unknown weights file format"), "{console}");
}

/// Returns torchvision's small detector of the fixtures with COCO's 91 outputs, of which it always chooses
/// this one.
fn coco_detector(class: usize) -> Vec<u8> {
    const OUTPUTS: usize = 91;
    let mut tensors = tensors_of(&fixture_path("layouts/torchvision_old_detector.pth"));
    let hidden = tensors["roi_heads.box_predictor.cls_score.weight"].0[1];
    for (layer, rows) in [("cls_score", OUTPUTS), ("bbox_pred", 4 * OUTPUTS)] {
        let name = |tensor| format!("roi_heads.box_predictor.{layer}.{tensor}");
        let mut bias = vec![0.0; rows];
        if layer == "cls_score" {
            bias[class] = 12.0;
        }
        tensors.insert(
            name("weight"),
            (vec![rows, hidden], vec![0.0; rows * hidden]),
        );
        tensors.insert(name("bias"), (vec![rows], bias));
    }
    to_safetensors(&tensors)
}

#[test]
fn a_named_detector_finds_objects_with_the_names_of_coco() {
    let user = User::new();
    user.store(&format!("{DETECTOR}.pth"), &coco_detector(18));
    let photo = text(&user.work().join("photo.png"));
    let pattern = |x: u32, y: u32| image::Rgb([(x * 5) as u8, (y * 7) as u8, (x * y) as u8]);
    image::RgbImage::from_fn(120, 90, pattern)
        .save(&photo)
        .unwrap();
    let predict = ["predict", "photo.png", "--weights", DETECTOR];
    let (code, table, console) = user.run(&predict);
    assert_eq!(code, Some(0), "{console}");
    assert!(table.contains("\n  dog  "), "{table}");
    assert!(
        console.contains("torchvision Faster R-CNN, from its COCO weights"),
        "{console}"
    );
    assert!(!console.contains("assumed"), "{console}");
    let (_, json, _) = user.run(&[&predict[..], &["--json"]].concat());
    let rows: Vec<serde_json::Value> = serde_json::from_str(&json).unwrap();
    assert!(!rows.is_empty());
    assert!(rows.iter().all(|row| row["category_id"] == 18), "{json}");

    let loaded = load_weights(Path::new(&user.stored(&format!("{DETECTOR}.pth"))), None).unwrap();
    assert_eq!(loaded.spec.categories.len(), 90);
    let preprocess = loaded.spec.preprocess;
    assert_eq!((preprocess.min_size, preprocess.max_size), (800, 1333));
}
