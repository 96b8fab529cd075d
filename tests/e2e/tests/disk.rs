//! A disk that is full is a reason, not a crash; and with room again the download goes on.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use warren_bench::content;
use warren_e2e::lab::Lab;
use warren_e2e::swarm::{self, is, text};
use warren_e2e::{namespace, not_run};

const PATIENCE: Duration = Duration::from_secs(120);

fn mount(options: &str, at: &Path) {
    let status = Command::new("mount").args(["-t", "tmpfs", "-o", options, "none"]).arg(at).status();
    assert!(status.unwrap().success(), "mount -o {options}");
}

#[test]
fn a_full_disk_is_explained_and_the_download_goes_on_with_room_again() {
    if !namespace::is_inside() {
        if not_run::lacks_libtorrent().unwrap() {
            return;
        }
        if !namespace::is_possible() {
            return not_run::note("no mount namespace is to be had").unwrap();
        }
        let name = "a_full_disk_is_explained_and_the_download_goes_on_with_room_again";
        return namespace::run_inside(name).unwrap();
    }
    let lab = Lab::start(2, 1).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("content.bin");
    content::write(&path, 16_000_000, 3).unwrap();
    let (_seeder, listening) = swarm::libtorrent(&["seed", path.to_str().unwrap()]).unwrap();
    let magnet = text(&listening, "magnet").unwrap();
    let out = folder.path().join("small");
    std::fs::create_dir(&out).unwrap();
    mount("size=4m", &out);
    let arguments = ["get", &magnet, "--hops", "1", "--out", out.to_str().unwrap()];
    let mut download = swarm::warren(&lab, "downloader", &arguments).unwrap();
    let error = download.wait_for("an error", PATIENCE, |event| is(event, "error")).unwrap();
    let message = text(&error, "message").unwrap();
    assert!(message.contains("small") && message.to_lowercase().contains("space"), "{message}");
    assert_eq!(download.process().wait(|| true).unwrap().code(), Some(1));
    mount("remount,size=64m", &out);
    let mut download = swarm::warren(&lab, "downloader", &arguments).unwrap();
    download.wait_for("done", PATIENCE, |event| is(event, "done")).unwrap();
    assert_eq!(content::sha256(&out.join("content.bin")).unwrap(), content::sha256(&path).unwrap());
}
