//! `warren config`

use std::path::Path;

use super::Failure;
use crate::cli::Global;
use crate::config::{load, render};

pub(super) fn check(global: &Global, file: Option<&Path>) -> Result<(), Failure> {
    let mut sources = super::sources(global);
    if let Some(file) = file {
        sources.file = Some(file.to_owned());
    }
    let checked = sources.file.clone().unwrap_or_else(crate::config::default_file);
    let there = checked.exists();
    load(&sources)?;
    let checked = checked.display();
    if global.json {
        println!("{}", serde_json::json!({ "ok": true, "file": checked.to_string(), "exists": there }));
    } else if there {
        println!("{checked}: ok");
    } else {
        println!("{checked}: does not exist; the defaults are in effect");
    }
    Ok(())
}

pub(super) fn show(global: &Global) -> Result<(), Failure> {
    let config = super::load(global)?;
    if global.json {
        println!("{}", render::json(&config));
    } else {
        print!("{}", render::show(&config));
    }
    Ok(())
}
