//! The configuration of one node of a test network.

use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use toml::{Table, Value};

use super::Role;

/// What a node's configuration is made from.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Folder of the node: configuration, state, output.
    pub dir: PathBuf,
    /// What it does.
    pub role: Role,
    /// The tunnel plugin's component.
    pub plugin: PathBuf,
    /// Overlay addresses to start from.
    pub bootstrap: Vec<String>,
    /// Password of its SOCKS door.
    pub token: String,
    /// Circuits it keeps ready.
    pub prebuild_hops: Vec<u8>,
    /// More: `section.key` and its value as TOML.
    pub set: Vec<(String, String)>,
}

impl Settings {
    /// The configuration's path.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.dir.join("warren.toml")
    }

    /// Writes the configuration and returns its path.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self) -> anyhow::Result<PathBuf> {
        fs::create_dir_all(&self.dir).with_context(|| format!("cannot create {}", self.dir.display()))?;
        let path = self.path();
        fs::write(&path, self.table()?.to_string())
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    fn table(&self) -> anyhow::Result<Table> {
        let mut table = Table::new();
        let mut put = |key: &str, value: Value| {
            let (section, name) = key.split_once('.').unwrap_or(("", key));
            let section = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
            if let Some(section) = section.as_table_mut() {
                section.insert(name.to_owned(), value);
            }
        };
        let text = |text: &str| Value::String(text.to_owned());
        let list = |texts: &[String]| Value::Array(texts.iter().map(|t| Value::String(t.clone())).collect());
        let is_relay = self.role != Role::Originator;
        put("node.state_dir", text(&self.dir.join("state").display().to_string()));
        put("tunnel.listen", text("127.0.0.1:0"));
        put(
            "overlay.listen",
            list(&["/ip4/127.0.0.1/udp/0/quic-v1", "/ip4/127.0.0.1/tcp/0"].map(str::to_owned)),
        );
        put("overlay.bootstrap", list(&self.bootstrap));
        put("socks.listen", text(if is_relay { "" } else { "127.0.0.1:0" }));
        put("socks.token", text(if is_relay { "" } else { &self.token }));
        put("relay.enabled", Value::Boolean(is_relay));
        put("exit.enabled", Value::Boolean(self.role == Role::Exit));
        put("workers.plugin", text(&self.plugin.display().to_string()));
        put("workers.pin", Value::Boolean(false));
        let hops = self.prebuild_hops.iter().map(|hops| Value::Integer(i64::from(*hops)));
        put("circuits.prebuild_hops", Value::Array(hops.collect()));
        for name in ["lab.enabled", "lab.allow_private_exits", "lab.same_network"] {
            put(name, Value::Boolean(true));
        }
        for (key, value) in &self.set {
            put(key, read(value)?);
        }
        Ok(table)
    }
}

/// A TOML value; what is none is taken as text.
fn read(text: &str) -> anyhow::Result<Value> {
    let line: Result<Table, _> = format!("value = {text}").parse();
    let value = line.ok().and_then(|mut line| line.remove("value"));
    Ok(value.unwrap_or_else(|| Value::String(text.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_decides_what_is_on() {
        let mut settings = Settings {
            dir: PathBuf::from("/x"),
            role: Role::Originator,
            plugin: PathBuf::from("/p.wasm"),
            bootstrap: vec!["/ip4/127.0.0.1/tcp/1/p2p/x".to_owned()],
            token: "secret".to_owned(),
            prebuild_hops: vec![1, 3],
            set: vec![
                ("workers.count".to_owned(), "1".to_owned()),
                ("workers.mode".to_owned(), "native".to_owned()),
            ],
        };
        let table = settings.table().unwrap();
        assert_eq!(table["socks"]["token"].as_str(), Some("secret"));
        assert_eq!(table["relay"]["enabled"].as_bool(), Some(false));
        assert_eq!(table["circuits"]["prebuild_hops"].as_array().unwrap().len(), 2);
        assert_eq!(table["workers"]["count"].as_integer(), Some(1));
        assert_eq!(table["workers"]["mode"].as_str(), Some("native"));
        settings.role = Role::Exit;
        let table = settings.table().unwrap();
        assert_eq!(table["socks"]["listen"].as_str(), Some(""));
        assert_eq!(
            (table["relay"]["enabled"].as_bool(), table["exit"]["enabled"].as_bool()),
            (Some(true), Some(true))
        );
    }
}
