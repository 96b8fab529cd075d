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
    for word in
        ["run", "get", "seed", "status", "circuits", "worker", "plugin", "config", "completions", "Examples:"]
    {
        assert!(text(&help.stdout).contains(word), "{word}");
    }
    let get = text(&home.output(&["get", "--help"]).stdout);
    assert!(get.contains("--hops") && get.contains("magnet:?xt="), "{get}");
    for shell in ["bash", "zsh", "fish"] {
        let completions = home.output(&["completions", shell]);
        let script = text(&completions.stdout);
        assert!(completions.status.success());
        for word in ["rollback", "keygen", "watch", "canary", "tunnel"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
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
        &["status", "--watch", "0"],
        &["worker", "swap", "tunnel"],
        &["worker", "swap", "tunnel", "no-such-file.wasm"],
        &["worker", "swap", "tunnel", "/"],
        &["worker", "swap", "search", "/dev/null"],
        &["worker", "rollback", "search"],
        &["plugin", "keygen", "--no-password", "--password-file", "x"],
        &["plugin", "keygen"],
        &["plugin", "verify", "no-such-file.wasm", "--key", "nonsense"],
        &["run", "--set", "workers.count=2", "--set", "workers.max=3"],
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
fn without_a_node_each_question_says_so() {
    let home = Home::new();
    let module = home.path().join("new.wasm");
    std::fs::write(&module, "").unwrap();
    let module = module.to_str().unwrap();
    for arguments in [
        &["status"][..],
        &["status", "--watch"],
        &["circuits"],
        &["worker", "list"],
        &["worker", "swap", "tunnel", module],
        &["worker", "rollback", "tunnel"],
        &["worker", "kill", "0"],
    ] {
        let output = home.output(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let error = text(&output.stderr);
        assert!(error.contains("no node answers"), "{arguments:?}: {error}");
    }
}

#[test]
fn an_unknown_plugin_is_refused_with_the_known_names() {
    let home = Home::new();
    let output = home.output(&["worker", "rollback", "search"]);
    let error = text(&output.stderr);
    assert!(error.contains("'search'") && error.contains("tunnel"), "{error}");
}

#[test]
fn a_module_is_signed_and_verified() {
    let home = Home::new();
    let path = |name: &str| home.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("new.wasm"), "a module").unwrap();
    std::fs::write(path("password"), "a long one\n").unwrap();
    let json = |arguments: &[&str]| -> Value {
        let output = home.output(&[arguments, &["--json"]].concat());
        assert!(output.status.success(), "{arguments:?}: {}{}", text(&output.stdout), text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let key = json(&["plugin", "keygen", "--no-password"]);
    let default = home.path().join("config/warren/plugin.key");
    assert_eq!(key["secret_file"], default.to_str().unwrap());
    assert_eq!(std::fs::metadata(&default).unwrap().permissions().mode() & 0o777, 0o600);
    let public = key["public_key"].as_str().unwrap();

    let refused = |arguments: &[&str], status: i32, part: &str| {
        let output = home.output(arguments);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {error}");
        assert!(error.contains(part), "{arguments:?}: {error}");
    };
    refused(&["plugin", "keygen", "--no-password"], 1, "is there already");
    refused(&["plugin", "verify", &path("new.wasm"), "--key", public], 1, "new.wasm.minisig");
    let signed = json(&["plugin", "sign", &path("new.wasm")]);
    assert_eq!(signed["signature"], path("new.wasm.minisig").as_str());
    refused(&["plugin", "verify", &path("new.wasm")], 2, "plugins.keys");
    let verified = json(&["plugin", "verify", &path("new.wasm"), "--key", public]);
    assert_eq!(verified["signer"], key["id"]);
    let keys = format!("plugins.keys={public}");
    assert_eq!(json(&["plugin", "verify", &path("new.wasm"), "--set", &keys]), verified);

    let sealed =
        json(&["plugin", "keygen", "--out", &path("sealed.key"), "--password-file", &path("password")]);
    refused(&["plugin", "sign", &path("new.wasm"), "--key", &path("sealed.key")], 2, "--password-file");
    json(&[
        "plugin",
        "sign",
        &path("new.wasm"),
        "--key",
        &path("sealed.key"),
        "--password-file",
        &path("password"),
    ]);
    refused(&["plugin", "verify", &path("new.wasm"), "--set", &keys], 1, sealed["id"].as_str().unwrap());
    json(&["plugin", "verify", &path("new.wasm"), "--key", &path("sealed.pub")]);
    std::fs::write(path("new.wasm"), "a module, changed").unwrap();
    refused(&["plugin", "verify", &path("new.wasm"), "--key", &path("sealed.pub")], 1, "was changed");
}

#[test]
fn a_node_tells_of_its_workers_and_refuses_what_it_cannot_do() {
    let home = Home::new();
    let _node = Running::start(home.node(&[]));
    let workers = home.output(&["worker", "list", "--json"]);
    let workers: Vec<Value> =
        text(&workers.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(workers.len(), 1);
    assert_eq!(workers[0]["index"], 0);
    let table = text(&home.output(&["worker", "list"]).stdout);
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("worker  state") && lines[0].ends_with("module"), "{table}");
    assert!(lines[1].trim_start().starts_with("0  running") && lines[1].contains("  tunnel "), "{table}");
    assert_eq!(text(&home.output(&["circuits"]).stdout), "no circuits\n");
    assert!(home.output(&["circuits", "--json"]).stdout.is_empty());

    let module = home.path().join("new.wasm");
    std::fs::write(&module, "a module").unwrap();
    // By a relative path: the node stands elsewhere.
    let mut swap = home.warren(&["worker", "swap", "tunnel", "new.wasm", "--json"]);
    let swap = swap.current_dir(home.path()).output().unwrap();
    assert_eq!(swap.status.code(), Some(1));
    let lines: Vec<Value> =
        text(&swap.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((lines[0]["event"].as_str(), lines[0]["stage"].as_str()), (Some("step"), Some("rolled-back")));
    assert!(lines[1]["message"].as_str().unwrap().contains("workers.mode is \"native\""), "{lines:?}");
    let rollback = home.output(&["worker", "rollback", "tunnel"]);
    assert_eq!(rollback.status.code(), Some(1));
    assert!(text(&rollback.stderr).contains("native"));
    let kill = home.output(&["worker", "kill", "0"]);
    assert_eq!(kill.status.code(), Some(1));
    assert!(text(&kill.stderr).contains("lab.enabled"));

    let audit = home.state().join("audit.jsonl");
    assert_eq!(std::fs::metadata(&audit).unwrap().permissions().mode() & 0o777, 0o600);
    let audit = std::fs::read_to_string(audit).unwrap();
    assert!(audit.lines().count() == 1 && audit.contains("\"stage\":\"rolled-back\""), "{audit}");
}

#[test]
fn a_watch_goes_on_until_ctrl_c() {
    let home = Home::new();
    let node = Running::start(home.node(&[]));
    for more in [&[][..], &["--json"]] {
        let mut command = home.warren(&[&["status", "--watch", "0.1"], more].concat());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        for _ in 0..3 {
            let line = lines.next().unwrap().unwrap();
            if more.is_empty() {
                assert!(line.starts_with("up ") && line.contains("1 workers"), "{line}");
            } else {
                let status: Value = serde_json::from_str(&line).unwrap();
                assert_eq!(status["peer_id"], node.ready["peer_id"]);
            }
        }
        let pid = i32::try_from(child.id()).unwrap();
        // SAFETY: the child was started here and has not been waited for, so the id is its own.
        assert_eq!(unsafe { libc::kill(pid, libc::SIGINT) }, 0);
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
    let mut command = home.warren(&["status", "--watch", "0.1"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.next().unwrap().unwrap();
    assert_eq!(node.terminate(), 0);
    lines.for_each(drop);
    assert_eq!(child.wait().unwrap().code(), Some(1), "the node is gone");
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
