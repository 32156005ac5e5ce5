//! `generate`: man pages and completions, from the description of the command line.

use std::fs;
use std::io;
use std::path::Path;

use clap::CommandFactory;
use clap_complete::{Shell, generate_to};

use crate::Outcome;
use crate::arguments::{Arguments, Generate};

const NAME: &str = "mosquitto-http-auth";

/// Writes them into a folder.
///
/// # Errors
/// The folder that cannot be written to.
pub fn run(what: &Generate) -> Result<Outcome, String> {
    write(&what.folder)
        .map_err(|cause| format!("{} cannot be written ({cause})", what.folder.display()))
        .map(|()| Outcome::Yes)
}

fn write(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let command = Arguments::command();
    clap_mangen::generate_to(command.clone(), folder)?;
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        generate_to(shell, &mut command.clone(), NAME, folder)?;
    }
    Ok(())
}
