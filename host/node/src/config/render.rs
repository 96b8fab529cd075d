//! The configuration for people: `config show` and `docs/configuration.md`.

use std::fmt::Write;

use toml::Value;

use super::Config;
use super::keys::{KEYS, Key, SECTIONS};
use super::kind::Kind;

/// Width at which comments are broken.
const WIDTH: usize = 96;

/// The effective configuration as TOML with a comment for each key. Secrets are replaced.
#[must_use]
pub fn show(config: &Config) -> String {
    let mut text = String::new();
    for (section, about) in SECTIONS {
        let _ = writeln!(text, "# {about}\n[{section}]");
        for key in KEYS.iter().filter(|key| key.section == *section) {
            for line in broken(key.doc, WIDTH) {
                let _ = writeln!(text, "# {line}");
            }
            let value = config.effective.get(*section).and_then(|table| table.get(key.name));
            let _ = writeln!(text, "{} = {}", key.name, shown(key, value));
        }
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

/// The effective configuration as one JSON object. Secrets are replaced.
#[must_use]
pub fn json(config: &Config) -> String {
    let mut table = config.effective.clone();
    for key in KEYS.iter().filter(|key| key.kind == Kind::Secret) {
        let secret = table.get_mut(key.section).and_then(|section| section.get_mut(key.name));
        if let Some(Value::String(text)) = secret
            && !text.is_empty()
        {
            "(hidden)".clone_into(text);
        }
    }
    serde_json::to_string(&table).unwrap_or_default()
}

fn shown(key: &Key, value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) if key.kind == Kind::Secret && !text.is_empty() => {
            "\"(hidden)\"".to_owned()
        }
        Some(value) => value.to_string(),
        None => key.default.to_owned(),
    }
}

fn broken(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        if lines.last().is_some_and(|line| !line.is_empty() && line.len() + 1 + word.len() > width) {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

/// `docs/configuration.md`.
#[must_use]
pub fn book() -> String {
    let mut text = String::from(
        "# Configuration\n\n\
         `warren` reads `$XDG_CONFIG_HOME/warren/config.toml` (usually `~/.config/warren/config.toml`), or the file \
         named by `--config` or `WARREN_CONFIG`. Every key can be overridden by the environment variable beside it, \
         and that by `--set section.key=value`. Unknown keys are refused. `warren config show` prints what is in \
         effect, `warren config check FILE` checks a file.\n\n\
         In variables and in `--set`, text stands bare, and a list is either TOML (`[\"a\", \"b\"]`) or separated by \
         commas (`a,b`).\n",
    );
    for (section, about) in SECTIONS {
        let _ = write!(
            text,
            "\n## [{section}]\n\n{about}\n\n| key | default | what it is | variable |\n| --- | --- | --- | --- |\n"
        );
        for key in KEYS.iter().filter(|key| key.section == *section) {
            let _ = writeln!(
                text,
                "| `{}` | `{}` | {} Takes {}. | `{}` |",
                key.name,
                key.default,
                key.doc.replace('|', "\\|"),
                key.kind.expected(),
                key.variable()
            );
        }
    }
    text
}
