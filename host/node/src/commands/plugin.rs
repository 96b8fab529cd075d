//! `warren plugin`: needs no running node.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use warren_ports::Clock;
use zeroize::Zeroizing;

use super::{Failure, load, say, say_json};
use crate::cli::{Global, Plugin};
use crate::signature::{self, PublicKey, SecretFile, SignatureError};

impl From<SignatureError> for Failure {
    fn from(error: SignatureError) -> Self {
        match error {
            SignatureError::NoKey(_) | SignatureError::PublicKey(_) => Self::Usage(error.into()),
            _ => Self::Failed(error.into()),
        }
    }
}

pub(super) fn plugin(global: &Global, command: &Plugin) -> Result<(), Failure> {
    match command {
        Plugin::Keygen { out, password_file, no_password } => {
            keygen(global, out.as_deref(), password_file.as_deref(), *no_password)
        }
        Plugin::Sign { file, key, password_file } => {
            sign(global, file, key.as_deref(), password_file.as_deref())
        }
        Plugin::Verify { file, keys } => verify(global, file, keys),
    }
}

fn default_key() -> PathBuf {
    crate::folders::config().join("plugin.key")
}

fn keygen(
    global: &Global,
    out: Option<&Path>,
    password_file: Option<&Path>,
    no_password: bool,
) -> Result<(), Failure> {
    let default = default_key();
    let out = out.unwrap_or(&default);
    if *out == default
        && let Some(folder) = out.parent()
    {
        std::fs::create_dir_all(folder)
            .map_err(|error| Failure::Failed(anyhow!("creating {}: {error}", folder.display())))?;
    }
    // Nobody thinks of a password for nothing.
    signature::free(out)?;
    let password = match password_file {
        Some(file) => Some(signature::read_password(file)?),
        None if no_password => None,
        None => Some(asked("Password for the new key: ", Some("Once more: "))?),
    };
    let made = signature::generate(out, password.as_deref().map(String::as_str))?;
    if global.json {
        say_json(&serde_json::json!({
            "event": "key", "id": made.public.id(), "public_key": made.public.to_string(),
            "secret_file": made.secret_file, "public_file": made.public_file,
        }))?;
    } else {
        let (secret, public) = (made.secret_file.display(), made.public_file.display());
        say(&format!(
            "key {}\n  secret half  {secret}\n  public half  {public}\n\n\
             Nodes that shall take its modules need this in their configuration:\n\n\
             [plugins]\nkeys = [\"{}\"]\n",
            made.public.id(),
            made.public
        ));
    }
    Ok(())
}

fn sign(
    global: &Global,
    file: &Path,
    key: Option<&Path>,
    password_file: Option<&Path>,
) -> Result<(), Failure> {
    let default = default_key();
    let key = key.unwrap_or(&default);
    let secret = SecretFile::open(key)?;
    let password = match password_file {
        Some(file) => Some(signature::read_password(file)?),
        None if secret.needs_password() => Some(asked(&format!("Password of {}: ", key.display()), None)?),
        None => None,
    };
    let now = warren_core::SystemClock::start().now().as_micros() / 1_000_000;
    let place = secret.sign(file, password.as_deref().map(String::as_str), now)?;
    if global.json {
        say_json(&serde_json::json!({ "event": "signed", "file": file, "signature": place }))?;
    } else {
        say(&format!("{}\n", place.display()));
    }
    Ok(())
}

fn verify(global: &Global, file: &Path, given: &[String]) -> Result<(), Failure> {
    let keys = if given.is_empty() {
        load(global)?.plugins.keys()
    } else {
        given.iter().map(|given| PublicKey::find(given)).collect::<Result<_, _>>()?
    };
    let bytes = signature::read_module(file)?;
    let verified = signature::verify(file, &bytes, &keys)?;
    let sha256 = signature::sha256(&bytes);
    if global.json {
        say_json(&serde_json::json!({
            "event": "verified", "file": file, "signer": verified.signer, "comment": verified.comment,
            "sha256": sha256,
        }))?;
    } else {
        let file = file.display();
        say(&format!("{file}: signed by {} ({})\nsha256 {sha256}\n", verified.signer, verified.comment));
    }
    Ok(())
}

/// A password from the terminal, twice when there is something to ask for it `again`.
fn asked(prompt: &str, again: Option<&str>) -> Result<Zeroizing<String>, Failure> {
    if !std::io::stdin().is_terminal() {
        let flag = if again.is_some() { "--password-file or --no-password" } else { "--password-file" };
        return Err(Failure::Usage(anyhow!("there is no terminal to ask for a password on; give {flag}")));
    }
    let ask = |prompt| {
        let answer = rpassword::prompt_password(prompt).map(Zeroizing::new);
        answer.map_err(|error| Failure::Failed(anyhow!("asking for a password: {error}")))
    };
    let password = ask(prompt)?;
    if password.is_empty() {
        return Err(Failure::Usage(anyhow!("an empty password protects nothing")));
    }
    if again.map(ask).transpose()?.is_some_and(|repeated| *repeated != *password) {
        return Err(Failure::Usage(anyhow!("the two passwords differ")));
    }
    Ok(password)
}
