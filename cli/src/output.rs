//! What is printed: findings, colours on terminals only, and passwords that are read.

use std::fmt::Display;
use std::io::{self, BufRead, IsTerminal};

use anstream::{eprintln, println};
use anstyle::{AnsiColor, Style};
use serde::Serialize;

use crate::Outcome;

const BOLD: Style = Style::new().bold();

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// This is as it should be.
    Ok,
    /// Something to know.
    Note,
    /// This works, but not as most want it.
    Warning,
    /// The broker does not start with this, the API cannot be asked, or a door is open.
    Error,
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "ERROR",
        }
    }

    fn style(self) -> Style {
        match self {
            Self::Ok => AnsiColor::Green.on_default(),
            Self::Note => AnsiColor::Cyan.on_default(),
            Self::Warning => AnsiColor::Yellow.on_default().bold(),
            Self::Error => AnsiColor::Red.on_default().bold(),
        }
    }
}

/// Something that was found, and what to do about it.
#[derive(Debug, Serialize)]
pub struct Finding {
    pub level: Level,
    pub text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cure: Option<String>,
}

/// All findings of a check, printed as they come, or as JSON at the end.
pub struct Report {
    json: bool,
    pub findings: Vec<Finding>,
}

impl Report {
    pub fn new(json: bool) -> Self {
        Self { json, findings: Vec::new() }
    }

    /// The findings that follow are about this.
    pub fn about(&self, what: impl Display) {
        if !self.json {
            println!("{BOLD}{what}{BOLD:#}");
        }
    }

    pub fn ok(&mut self, text: impl Into<String>) {
        self.add(Level::Ok, text.into(), None);
    }

    pub fn note(&mut self, text: impl Into<String>) {
        self.add(Level::Note, text.into(), None);
    }

    pub fn warning(&mut self, text: impl Into<String>, cure: impl Into<String>) {
        self.add(Level::Warning, text.into(), Some(cure.into()));
    }

    pub fn error(&mut self, text: impl Into<String>, cure: impl Into<String>) {
        self.add(Level::Error, text.into(), Some(cure.into()));
    }

    fn add(&mut self, level: Level, text: String, cure: Option<String>) {
        if !self.json {
            let (style, word) = (level.style(), level.word());
            println!("  {style}{word:<8}{style:#} {text}");
            if let Some(cure) = &cure {
                println!("           -> {cure}");
            }
        }
        self.findings.push(Finding { level, text, cure });
    }

    fn count(&self, level: Level) -> usize {
        self.findings.iter().filter(|finding| finding.level == level).count()
    }

    /// Says what it comes to. `strict`: warnings count as errors.
    pub fn close(self, strict: bool) -> Outcome {
        let (errors, warnings) = (self.count(Level::Error), self.count(Level::Warning));
        let outcome = if errors > 0 || (strict && warnings > 0) { Outcome::No } else { Outcome::Yes };
        if self.json {
            let ok = outcome == Outcome::Yes;
            print_json(&serde_json::json!({
                "ok": ok, "errors": errors, "warnings": warnings, "findings": self.findings,
            }));
        } else {
            println!("{BOLD}{}, {}.{BOLD:#}", counted(errors, "mistake"), counted(warnings, "warning"));
        }
        outcome
    }
}

/// A number of things, for people.
pub fn counted(number: usize, what: &str) -> String {
    match number {
        0 => format!("no {what}"),
        1 => format!("1 {what}"),
        number => format!("{number} {what}s"),
    }
}

/// A text from elsewhere, for people: what an API or a client says must not steer the terminal, nor hide anything.
pub fn printable(text: &str) -> String {
    let shown = |c: char| if matches!(c, '"' | '\'' | '\\') { vec![c] } else { c.escape_debug().collect() };
    text.chars().flat_map(shown).collect()
}

/// Prints a document on standard output.
pub fn print_json(document: &serde_json::Value) {
    println!("{document:#}");
}

/// Prints what stops a command on standard error.
pub fn complain(what: &str) {
    let style = Level::Error.style();
    eprintln!("{style}error:{style:#} {what}");
}

/// The password that somebody types, unseen and `twice` where a slip would not be noticed, or the first line of standard
/// input.
///
/// # Errors
/// What is wrong, in words.
pub fn password(from_stdin: bool, twice: bool) -> Result<String, String> {
    if from_stdin {
        let mut line = String::new();
        io::stdin()
            .lock()
            .read_line(&mut line)
            .map_err(|error| format!("no password can be read ({error})"))?;
        return Ok(line.trim_end_matches(['\r', '\n']).to_owned());
    }
    if !io::stdin().is_terminal() {
        return Err(
            "there is no terminal to ask for the password: give it on standard input, with --password-stdin"
                .to_owned(),
        );
    }
    let ask = |prompt| {
        rpassword::prompt_password(prompt).map_err(|error| format!("no password can be read ({error})"))
    };
    let password = ask("Password: ")?;
    if twice && ask("Once more: ")? != password {
        return Err("the two differ; nothing was made".to_owned());
    }
    Ok(password)
}
