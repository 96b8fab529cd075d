//! From file, environment and flags to a checked [`Config`].

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::keys::{KEYS, Key, find, nearest, nearest_section};
use super::{Config, ConfigError, Origin, default_file, must_exist};

/// Where values may come from, weakest first.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The file; none for the default one, which may be missing.
    pub file: Option<PathBuf>,
    /// The environment. Only names of known keys are read.
    pub environment: Vec<(String, String)>,
    /// `section.key=value`, with the flag that said so.
    pub flags: Vec<(String, String)>,
}

/// Reads all sources and checks every value and how they go together.
///
/// # Errors
/// See [`ConfigError`].
pub fn load(sources: &Sources) -> Result<Config, ConfigError> {
    let mut effective = defaults();
    let mut stated = Vec::new();
    let mut put = |key: &Key, value| {
        stated.push(key.full_name());
        put(&mut effective, key, value);
    };
    let path = sources.file.clone().unwrap_or_else(default_file);
    for (key, value) in from_file(&path, must_exist(sources.file.as_deref()))? {
        put(key, value);
    }
    for key in KEYS {
        let variable = key.variable();
        if let Some((_, text)) = sources.environment.iter().find(|(name, _)| *name == variable) {
            put(key, read(key, text, Origin::Variable(variable))?);
        }
    }
    for (flag, assignment) in &sources.flags {
        let (key, value) = from_flag(flag, assignment)?;
        put(key, value);
    }
    let mut config: Config = Value::Table(effective.clone())
        .try_into()
        .map_err(|error: toml::de::Error| ConfigError::Conflict(error.message().to_owned()))?;
    config.effective = effective;
    config.stated = stated;
    config.check()?;
    Ok(config)
}

/// Every key's default. The table is checked by a test, so none is ever missing.
fn defaults() -> Table {
    let mut table = Table::new();
    for key in KEYS {
        let line: Option<Table> = format!("value = {}", key.default).parse().ok();
        if let Some(value) = line.and_then(|mut line| line.remove("value")) {
            put(&mut table, key, value);
        }
    }
    table
}

fn put(table: &mut Table, key: &Key, value: Value) {
    let section = table.entry(key.section).or_insert_with(|| Value::Table(Table::new()));
    if let Value::Table(section) = section {
        section.insert(key.name.to_owned(), value);
    }
}

fn from_file(path: &Path, must_exist: bool) -> Result<Vec<(&'static Key, Value)>, ConfigError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !must_exist => return Ok(Vec::new()),
        Err(source) => return Err(ConfigError::Read { path: path.to_owned(), source }),
    };
    let table: Table = text.parse().map_err(|error: toml::de::Error| ConfigError::Syntax {
        path: path.to_owned(),
        detail: error.to_string().trim_end().to_owned(),
    })?;
    let origin = Origin::File(path.to_owned());
    let mut found = Vec::new();
    for (section, content) in table {
        if !KEYS.iter().any(|key| key.section == section) {
            return Err(unknown_section(origin, section, &content));
        }
        let Value::Table(content) = content else {
            let detail = format!("expected a section [{section}], found {content}");
            return Err(ConfigError::Value { origin, key: section, detail });
        };
        for (name, value) in content {
            let key = known(&section, &name, &origin)?;
            check(key, &value, &origin)?;
            found.push((key, value));
        }
    }
    Ok(found)
}

fn unknown_section(origin: Origin, section: String, content: &Value) -> ConfigError {
    if content.is_table() {
        let nearest = nearest_section(&section).map(|name| format!("[{name}]"));
        return ConfigError::UnknownSection { origin, section, nearest };
    }
    ConfigError::UnknownKey { origin, nearest: nearest(&section), key: section }
}

fn known(section: &str, name: &str, origin: &Origin) -> Result<&'static Key, ConfigError> {
    find(section, name).ok_or_else(|| {
        let key = format!("{section}.{name}");
        ConfigError::UnknownKey { origin: origin.clone(), nearest: nearest(&key), key }
    })
}

fn check(key: &Key, value: &Value, origin: &Origin) -> Result<(), ConfigError> {
    key.kind.check(value).map_err(|detail| ConfigError::Value {
        origin: origin.clone(),
        key: key.full_name(),
        detail,
    })
}

fn read(key: &Key, text: &str, origin: Origin) -> Result<Value, ConfigError> {
    key.kind.read(text).map_err(|detail| ConfigError::Value { origin, key: key.full_name(), detail })
}

fn from_flag(flag: &str, assignment: &str) -> Result<(&'static Key, Value), ConfigError> {
    let origin = Origin::Flag(flag.to_owned());
    let Some((name, text)) = assignment.split_once('=') else {
        let detail = "expected section.key=value, such as relay.enabled=true".to_owned();
        return Err(ConfigError::Value { origin, key: assignment.to_owned(), detail });
    };
    let name = name.trim();
    let (section, rest) = name.split_once('.').unwrap_or(("", name));
    let Some(key) = find(section, rest) else {
        return Err(ConfigError::UnknownKey { origin, nearest: nearest(name), key: name.to_owned() });
    };
    Ok((key, read(key, text.trim(), origin)?))
}
