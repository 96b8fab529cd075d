//! A compiler for `wasm32-unknown-unknown`: found, or installed without asking for more than apt.
//!
//! In this order: the standard library that rustup (or a distribution) already put beside `rustc`;
//! Debian's `rustc-web` with its sources, from which cargo builds a standard library; the same
//! packages unpacked earlier into the cache folder; then what can be fetched: rustup's target, the
//! packages by apt as root, the packages unpacked without root.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;
use std::{env, fs};

use anyhow::{Context, bail};

/// The target of every guest.
pub(crate) const TARGET: &str = "wasm32-unknown-unknown";

const PACKAGES: [&str; 4] = ["rustc-web", "cargo-web", "rust-web-src", "lld-19"];

/// What runs of a foreign cargo must not inherit from the cargo that started this program.
const NOT_INHERITED: [&str; 12] = [
    "CARGO",
    "CARGO_BUILD_RUSTC",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_TARGET_DIR",
    "LD_LIBRARY_PATH",
    "RUSTC",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTDOC",
    "RUSTFLAGS",
];

/// A way to compile guests.
pub(crate) enum Toolchain {
    /// The cargo that runs us has the target's standard library.
    Own,
    /// Debian's packages under this root: `/`, or a folder they were unpacked into.
    Debian {
        /// Where `usr` is.
        root: PathBuf,
        /// The linker.
        wasm_ld: PathBuf,
    },
}

impl Toolchain {
    /// `cargo VERB --target …` with this toolchain.
    pub(crate) fn cargo(&self, verb: &str) -> Command {
        let mut flags = vec![
            "-Ctarget-feature=+simd128,+wide-arithmetic".to_owned(),
            "--cfg=curve25519_dalek_bits=\"64\"".to_owned(),
        ];
        if let Some(home) = cargo_home() {
            // A panic's words must not depend on whose machine compiled the plugin.
            flags.push(format!("--remap-path-prefix={}=cargo", home.display()));
        }
        let mut command = match self {
            Self::Own => Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into())),
            Self::Debian { root, .. } => Command::new(root.join("usr/bin/cargo")),
        };
        for name in NOT_INHERITED {
            command.env_remove(name);
        }
        command.args([verb, "--target", TARGET]);
        if let Self::Debian { root, wasm_ld } = self {
            flags.push(format!("-Clinker={}", wasm_ld.display()));
            command.env_remove("RUSTUP_TOOLCHAIN").env("RUSTC_BOOTSTRAP", "1");
            command.env("RUSTC", root.join("usr/bin/rustc"));
            command.arg("-Zbuild-std=std,panic_abort");
            if let Some(paths) = library_paths(root) {
                command.env("LD_LIBRARY_PATH", paths);
            }
        }
        command.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
        command
    }
}

fn cargo_home() -> Option<PathBuf> {
    let set = env::var_os("CARGO_HOME").map(PathBuf::from);
    set.or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")))
}

/// Finds a toolchain, or installs one.
pub(crate) fn find_or_install(cache: &Path) -> anyhow::Result<Toolchain> {
    let unpacked = cache.join("debian");
    let there = own().or_else(|| debian(Path::new("/"))).or_else(|| debian(&unpacked));
    if let Some(toolchain) = there {
        return Ok(toolchain);
    }
    eprintln!("no compiler for {TARGET} yet: looking for one");
    let mut tried = Vec::new();
    let ways: [(&str, &dyn Fn() -> anyhow::Result<()>); 3] = [
        ("rustup target add", &rustup_target),
        ("apt-get install", &apt_install),
        ("apt-get download", &|| apt_unpack(&unpacked)),
    ];
    for (name, way) in ways {
        if let Err(error) = way() {
            tried.push(format!("{name}: {error:#}"));
            continue;
        }
        let found = own().or_else(|| debian(Path::new("/"))).or_else(|| debian(&unpacked));
        if let Some(toolchain) = found {
            return Ok(toolchain);
        }
        tried.push(format!("{name}: succeeded, but the compiler is still not there"));
    }
    bail!(
        "plugins need a compiler for {TARGET}. Install it with `rustup target add {TARGET}`, or on Debian with \
         `apt-get install --no-install-recommends {}`. Tried:\n  {}",
        PACKAGES.join(" "),
        tried.join("\n  ")
    )
}

fn own() -> Option<Toolchain> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).args(["--print", "target-libdir", "--target", TARGET]).output().ok()?;
    let folder = String::from_utf8(output.stdout).ok()?;
    let libraries = fs::read_dir(folder.trim()).ok()?;
    let std = libraries.flatten().any(|file| file.file_name().to_string_lossy().starts_with("libstd-"));
    std.then_some(Toolchain::Own)
}

fn debian(root: &Path) -> Option<Toolchain> {
    let usr = root.join("usr");
    let needed = ["bin/cargo", "bin/rustc", "lib/rustlib/src/rust/library/Cargo.lock"];
    if !needed.iter().all(|file| usr.join(file).exists()) {
        return None;
    }
    let mut linkers: Vec<PathBuf> = fs::read_dir(usr.join("bin"))
        .ok()?
        .flatten()
        .filter(|file| file.file_name().to_string_lossy().starts_with("wasm-ld"))
        .map(|file| file.path())
        .collect();
    linkers.sort();
    Some(Toolchain::Debian { root: root.to_path_buf(), wasm_ld: linkers.pop()? })
}

/// Where the unpacked compiler's shared libraries are; none when the system's loader knows them.
fn library_paths(root: &Path) -> Option<OsString> {
    if root == Path::new("/") {
        return None;
    }
    let folders = fs::read_dir(root.join("usr/lib")).ok()?.flatten().map(|entry| entry.path());
    let paths = folders.filter_map(|folder| {
        let name = folder.file_name()?.to_string_lossy().into_owned();
        match name {
            name if name.starts_with("llvm-") => Some(folder.join("lib")),
            name if name.ends_with("-linux-gnu") => Some(folder),
            _ => None,
        }
    });
    env::join_paths(paths).ok()
}

fn rustup_target() -> anyhow::Result<()> {
    let mut command = Command::new("rustup");
    command.args(["target", "add", TARGET]);
    within(command, Duration::from_secs(120))
}

fn apt_install() -> anyhow::Result<()> {
    // SAFETY: geteuid has no preconditions and cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        bail!("needs root");
    }
    let mut update = Command::new("apt-get");
    update.args(["update", "-qq"]);
    within(update, Duration::from_secs(120))?;
    let mut install = Command::new("apt-get");
    install.args(["install", "-y", "-qq", "--no-install-recommends"]).args(PACKAGES);
    install.env("DEBIAN_FRONTEND", "noninteractive");
    within(install, Duration::from_secs(600))
}

/// The packages that are missing, and what they need, unpacked without being installed.
fn apt_unpack(root: &Path) -> anyhow::Result<()> {
    let simulated = Command::new("apt-get")
        .args(["install", "--simulate", "-qq", "--no-install-recommends"])
        .args(PACKAGES)
        .output()
        .context("cannot start apt-get")?;
    if !simulated.status.success() {
        bail!("{}", String::from_utf8_lossy(&simulated.stderr).trim());
    }
    let lines = String::from_utf8_lossy(&simulated.stdout).into_owned();
    let packages = lines.lines().filter_map(|line| line.strip_prefix("Inst ")?.split(' ').next());
    let archives = root.with_extension("archives");
    fs::create_dir_all(&archives).with_context(|| format!("cannot create {}", archives.display()))?;
    let mut download = Command::new("apt-get");
    download.args(["download", "-qq"]).args(packages).current_dir(&archives);
    within(download, Duration::from_secs(600))?;
    for archive in fs::read_dir(&archives)?.flatten() {
        let mut unpack = Command::new("dpkg");
        unpack.arg("-x").arg(archive.path()).arg(root);
        within(unpack, Duration::from_secs(300))?;
    }
    fs::remove_dir_all(&archives).with_context(|| format!("cannot remove {}", archives.display()))
}

/// Runs a command to its end, or kills it after `limit`.
fn within(mut command: Command, limit: Duration) -> anyhow::Result<()> {
    let step = Duration::from_millis(100);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let mut child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
    let mut waited = Duration::ZERO;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if waited >= limit {
            child.kill()?;
            child.wait()?;
            bail!("gave no answer in {} s", limit.as_secs());
        }
        sleep(step);
        waited += step;
    };
    if !status.success() {
        bail!("failed ({status})");
    }
    Ok(())
}
