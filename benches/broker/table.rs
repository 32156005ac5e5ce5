//! Measurements of one part, and the table that is made of them.

use std::fmt;

/// A plugin that allows everything.
pub const NULL: &str = "null";
/// The broker alone, with its `password_file` and `acl_file`.
pub const OWN_FILES: &str = "own files";

/// The subjects with which all others of a group are compared, where they were measured.
const REFERENCES: [&str; 2] = [NULL, OWN_FILES];

/// One row for each thing measured, one sample of each column for each round. Rows are in groups, within which
/// they can be compared: those of one broker, for example.
pub struct Table {
    pub title: &'static str,
    about: String,
    /// The first columns are compared with the references.
    columns: Vec<&'static str>,
    compared: usize,
    rows: Vec<Row>,
}

struct Row {
    group: String,
    subject: String,
    rounds: Vec<Vec<f64>>,
}

/// The samples of one subject.
#[derive(Clone, Copy)]
pub struct Spread {
    pub lowest: f64,
    pub median: f64,
    pub highest: f64,
}

impl Table {
    /// A table with columns that are compared with the references, and other columns.
    pub fn new(
        title: &'static str,
        about: impl Into<String>,
        compared: &[&'static str],
        others: &[&'static str],
    ) -> Self {
        let (columns, compared) = ([compared, others].concat(), compared.len());
        Self { title, about: about.into(), columns, compared, rows: Vec::new() }
    }

    /// Adds the samples of one round for a subject.
    pub fn add(&mut self, group: &str, subject: &str, sample: &[f64]) {
        assert_eq!(sample.len(), self.columns.len());
        let named = self.columns.iter().zip(sample);
        let words: Vec<_> = named.map(|(name, value)| format!("{name} {}", shown(*value))).collect();
        eprintln!("    {group}, {subject}: {}", words.join("; "));
        let same = |row: &&mut Row| row.group == group && row.subject == subject;
        if let Some(row) = self.rows.iter_mut().find(same) {
            return row.rounds.push(sample.to_vec());
        }
        let row = Row { group: group.to_owned(), subject: subject.to_owned(), rounds: vec![sample.to_vec()] };
        let last_of_group = self.rows.iter().rposition(|other| other.group == group);
        self.rows.insert(last_of_group.map_or(self.rows.len(), |last| last + 1), row);
    }

    /// The names of the groups.
    pub fn groups(&self) -> Vec<&str> {
        let mut groups: Vec<_> = self.rows.iter().map(|row| &*row.group).collect();
        groups.dedup();
        groups
    }

    /// The samples of a row and column, if they were measured.
    pub fn spread(&self, group: &str, subject: &str, column: usize) -> Option<Spread> {
        let spread = Spread::of(self.row(group, subject)?.rounds.iter().map(|round| round[column]).collect());
        spread.median.is_finite().then_some(spread)
    }

    fn row(&self, group: &str, subject: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.group == group && row.subject == subject)
    }

    /// How a row compares with a reference of its group: the median of the rounds' ratios.
    fn ratio(&self, row: &Row, reference: &str, column: usize) -> Option<f64> {
        let pairs = row.rounds.iter().zip(&self.row(&row.group, reference)?.rounds);
        let ratio = median(pairs.map(|(own, other)| own[column] / other[column]).collect());
        ratio.is_finite().then_some(ratio)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_there = |reference: &&str| self.rows.iter().any(|row| row.subject == *reference);
        let references: Vec<_> = REFERENCES.into_iter().filter(is_there).collect();
        let mut headings = self.columns.clone();
        let compared = if references.is_empty() { &[] } else { &self.columns[..self.compared] };
        let of_references = compared.iter().map(|name| {
            let name = name.split(',').next().unwrap_or(name);
            format!("{name}: × {}", references.join(", × "))
        });
        let of_references: Vec<_> = of_references.collect();
        headings.extend(of_references.iter().map(String::as_str));

        writeln!(f, "## {}\n\n{}\n", self.title, self.about)?;
        writeln!(f, "| | | {} |", headings.join(" | "))?;
        writeln!(f, "|---|---|{}", "---:|".repeat(headings.len()))?;
        let mut group = "";
        for row in &self.rows {
            write!(f, "| {} | {} |", if row.group == group { "" } else { &row.group }, row.subject)?;
            group = &row.group;
            for column in 0..self.columns.len() {
                let spread = Spread::of(row.rounds.iter().map(|round| round[column]).collect());
                write!(f, " {spread} |")?;
            }
            for column in 0..compared.len() {
                let ratio = |reference| self.ratio(row, reference, column).map_or("–".to_owned(), shown);
                let ratios: Vec<_> = references.iter().copied().map(ratio).collect();
                write!(f, " {} |", ratios.join(", "))?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

impl Spread {
    fn of(values: Vec<f64>) -> Self {
        let lowest = values.iter().copied().fold(f64::INFINITY, f64::min);
        let highest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        Self { lowest, median: median(values), highest }
    }
}

/// The median and, if they differ, the lowest and highest.
impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [lowest, median, highest] = [self.lowest, self.median, self.highest].map(shown);
        f.write_str(&median)?;
        if lowest == highest { Ok(()) } else { write!(f, " ({lowest}–{highest})") }
    }
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}

/// A number with about three digits.
pub fn shown(value: f64) -> String {
    match value {
        _ if !value.is_finite() => "–".to_owned(),
        _ if value >= 1000.0 => thousands(value.round() as u64),
        _ if value.fract() == 0.0 || value >= 100.0 => format!("{value:.0}"),
        _ if value >= 10.0 => format!("{value:.1}"),
        _ if value >= 0.1 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

fn thousands(value: u64) -> String {
    if value < 1000 { value.to_string() } else { format!("{},{:03}", thousands(value / 1000), value % 1000) }
}
