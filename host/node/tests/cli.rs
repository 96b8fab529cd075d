//! The built program, as a person or a script meets it.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

/// A home of its own, so that nothing of this machine's user is read or written.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn state(&self) -> PathBuf {
        self.path().join("state/warren")
    }

    fn warren(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_warren"));
        command.args(arguments).env_clear().env("HOME", self.path());
        for (variable, folder) in [("CONFIG", "config"), ("STATE", "state"), ("CACHE", "cache")] {
            command.env(format!("XDG_{variable}_HOME"), self.path().join(folder));
        }
        command
    }

    fn output(&self, arguments: &[&str]) -> Output {
        self.warren(arguments).output().unwrap()
    }

    /// A node on loopback with native workers: what is tested here is the program around them.
    fn node(&self, more: &[&str]) -> Command {
        let mut command = self.warren(&["run", "--json"]);
        for set in [
            "tunnel.listen=127.0.0.1:0",
            "overlay.listen=/ip4/127.0.0.1/tcp/0",
            "socks.listen=127.0.0.1:0",
            "workers.mode=native",
            "workers.count=1",
            "workers.pin=false",
        ] {
            command.args(["--set", set]);
        }
        command.args(more);
        command
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A node that is ready; ended when dropped, whatever happened.
struct Running {
    child: Child,
    ready: Value,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        Self { child, ready }
    }

    fn terminate(mut self) -> i32 {
        let pid = i32::try_from(self.child.id()).unwrap();
        // SAFETY: the child was started here and has not been waited for, so the id is its own.
        assert_eq!(unsafe { libc::kill(pid, libc::SIGTERM) }, 0);
        self.child.wait().unwrap().code().expect("ended by itself")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn help_names_the_commands_and_shows_examples() {
    let home = Home::new();
    let help = home.output(&["--help"]);
    assert!(help.status.success());
    for word in ["run", "get", "seed", "status", "config", "completions", "Examples:"] {
        assert!(text(&help.stdout).contains(word), "{word}");
    }
    let get = text(&home.output(&["get", "--help"]).stdout);
    assert!(get.contains("--hops") && get.contains("magnet:?xt="), "{get}");
    let completions = home.output(&["completions", "bash"]);
    assert!(completions.status.success() && text(&completions.stdout).contains("warren"));
}

#[test]
fn wrong_arguments_end_with_status_2() {
    let home = Home::new();
    for arguments in [
        &["get"][..],
        &["get", "x.torrent", "--hops", "4"],
        &["get", "no-such-file.torrent"],
        &["get", "file.torrent", "--peer", "nonsense"],
        &["seed", "no-such-file"],
        &["fetch"],
        &["run", "--frobnicate"],
        &["config", "check", "no-such-file.toml"],
        &["run", "--set", "tunnel.listen=here"],
    ] {
        let output = home.output(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", text(&output.stderr));
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_wrong_configuration_is_explained() {
    let home = Home::new();
    let file = home.path().join("mine.toml");
    std::fs::write(&file, "[relay]\nenable = true\n").unwrap();
    let file = file.to_str().unwrap();
    for arguments in
        [&["config", "check", file][..], &["run", "--config", file], &["status", "--config", file]]
    {
        let output = home.output(arguments);
        assert_eq!(output.status.code(), Some(2));
        let error = text(&output.stderr);
        assert!(error.contains("mine.toml") && error.contains("did you mean relay.enabled?"), "{error}");
    }
    let output = home.output(&["config", "check", file, "--json"]);
    let event: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(event["event"], "error");
}

#[test]
fn configuration_comes_from_the_platform_folder_environment_and_flags() {
    let home = Home::new();
    std::fs::create_dir_all(home.path().join("config/warren")).unwrap();
    std::fs::write(home.path().join("config/warren/config.toml"), "[socks]\ndefault_hops = 1\n").unwrap();
    let shown = |command: &mut Command| -> toml::Table {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout).parse().unwrap()
    };
    let hops = |table: &toml::Table| table["socks"]["default_hops"].as_integer();
    assert_eq!(hops(&shown(&mut home.warren(&["config", "show"]))), Some(1));
    let mut command = home.warren(&["config", "show"]);
    assert_eq!(hops(&shown(command.env("WARREN_SOCKS_DEFAULT_HOPS", "2"))), Some(2));
    let mut command = home.warren(&["config", "show", "--set", "socks.default_hops=3"]);
    assert_eq!(hops(&shown(command.env("WARREN_SOCKS_DEFAULT_HOPS", "2"))), Some(3));
}

#[test]
fn status_without_a_node_says_so() {
    let home = Home::new();
    let output = home.output(&["status"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("no node answers"), "{}", text(&output.stderr));
}

#[test]
fn a_node_runs_tells_its_status_and_stops_when_told() {
    let home = Home::new();
    let node = Running::start(home.node(&[]));
    assert_eq!(node.ready["event"], "ready");
    let output = home.output(&["status", "--json"]);
    let status: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(status["peer_id"], node.ready["peer_id"]);
    assert_eq!(status["socks_address"], node.ready["socks"]);
    assert!(status["overlay_addresses"][0].as_str().unwrap().contains("/p2p/"), "{status}");
    assert!(text(&home.output(&["status"]).stdout).contains("(client)"));

    let second = home.node(&[]).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let error = text(&second.stdout);
    assert!(error.contains("in use by another warren"), "{error}");

    let (ready, state) = (node.ready.clone(), home.state());
    let mode = |name: &str| std::fs::metadata(state.join(name)).unwrap().permissions().mode() & 0o777;
    for name in ["identity.key", "stream.key", "control.sock", "lock"] {
        assert_eq!(mode(name), 0o600, "{name}");
    }
    assert_eq!(mode(""), 0o700);
    assert_eq!(node.terminate(), 0);
    assert!(!state.join("control.sock").exists());

    let again = Running::start(home.node(&[]));
    assert_eq!(again.ready["peer_id"], ready["peer_id"], "the identity is kept");
}

#[test]
fn a_node_that_was_killed_starts_again() {
    let home = Home::new();
    let node = Running::start(home.node(&[]));
    let peer = node.ready["peer_id"].clone();
    drop(node);
    assert!(home.state().join("control.sock").exists(), "killed, so nothing was cleaned up");
    let node = Running::start(home.node(&[]));
    assert_eq!(node.ready["peer_id"], peer);
    assert!(home.output(&["status"]).status.success());
}

#[test]
fn a_port_in_use_is_named() {
    let home = Home::new();
    let tunnel = UdpSocket::bind("127.0.0.1:0").unwrap();
    let socks = TcpListener::bind("127.0.0.1:0").unwrap();
    let overlay = TcpListener::bind("127.0.0.1:0").unwrap();
    let overlay_port = overlay.local_addr().unwrap().port();
    for (set, port) in [
        (format!("tunnel.listen={}", tunnel.local_addr().unwrap()), tunnel.local_addr().unwrap().port()),
        (format!("socks.listen={}", socks.local_addr().unwrap()), socks.local_addr().unwrap().port()),
        (format!("overlay.listen=/ip4/127.0.0.1/tcp/{overlay_port}"), overlay_port),
    ] {
        let output = home.node(&["--set", &set]).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{set}");
        let error = text(&output.stdout);
        assert!(error.contains(&port.to_string()) && error.contains("in use"), "{set}: {error}");
    }
}

#[test]
fn a_state_folder_that_cannot_be_made_is_named() {
    let home = Home::new();
    let file = home.path().join("file");
    std::fs::write(&file, "").unwrap();
    let below = file.join("state");
    let output = home.node(&["--state-dir", below.to_str().unwrap()]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = text(&output.stdout);
    assert!(error.contains(below.to_str().unwrap()), "{error}");
}

#[test]
fn an_exposed_identity_is_refused() {
    let home = Home::new();
    std::fs::create_dir_all(home.state()).unwrap();
    std::fs::set_permissions(home.state(), std::fs::Permissions::from_mode(0o700)).unwrap();
    std::fs::write(home.state().join("identity.key"), [7; 32]).unwrap();
    std::fs::set_permissions(home.state().join("identity.key"), std::fs::Permissions::from_mode(0o644))
        .unwrap();
    let output = home.node(&[]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = text(&output.stdout);
    assert!(error.contains("identity.key") && error.contains("chmod 600"), "{error}");
}
