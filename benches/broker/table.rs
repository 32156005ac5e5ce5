//! Measurements of one part, and the table that is made of them.

use std::fmt;

/// One row for each thing measured, one sample of each column for each round.
pub struct Table {
    title: &'static str,
    about: String,
    columns: &'static [&'static str],
    rows: Vec<Row>,
}

struct Row {
    broker: String,
    subject: String,
    /// Whether the rows below it that have the same broker are compared with it.
    is_reference: bool,
    rounds: Vec<Vec<f64>>,
}

impl Table {
    pub fn new(title: &'static str, about: impl Into<String>, columns: &'static [&'static str]) -> Self {
        Self { title, about: about.into(), columns, rows: Vec::new() }
    }

    /// Adds a round of what the others are compared with: the plugin that allows everything.
    pub fn add_reference(&mut self, broker: &str, subject: &str, sample: &[f64]) {
        self.add_to(broker, subject, true, sample);
    }

    /// Adds a round of anything else.
    pub fn add(&mut self, broker: &str, subject: &str, sample: &[f64]) {
        self.add_to(broker, subject, false, sample);
    }

    fn add_to(&mut self, broker: &str, subject: &str, is_reference: bool, sample: &[f64]) {
        assert_eq!(sample.len(), self.columns.len());
        let shown: Vec<_> = self
            .columns
            .iter()
            .zip(sample)
            .map(|(name, value)| format!("{name} {}", shown(*value)))
            .collect();
        eprintln!("    {broker} {subject}: {}", shown.join("; "));
        let same = |row: &&mut Row| row.broker == broker && row.subject == subject;
        match self.rows.iter_mut().find(same) {
            Some(row) => row.rounds.push(sample.to_vec()),
            None => self.rows.push(Row {
                broker: broker.to_owned(),
                subject: subject.to_owned(),
                is_reference,
                rounds: vec![sample.to_vec()],
            }),
        }
    }

    /// How a row's first column compares with the reference above it: the median of the rounds' ratios.
    fn ratio(&self, index: usize) -> Option<f64> {
        let row = &self.rows[index];
        let above = self.rows[..index].iter().rev();
        let reference = above.filter(|other| other.broker == row.broker).find(|other| other.is_reference)?;
        let pairs = row.rounds.iter().zip(&reference.rounds);
        let ratio = median(pairs.map(|(own, other)| own[0] / other[0]).collect());
        ratio.is_finite().then_some(ratio)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "### {}\n\n{}\n", self.title, self.about)?;
        writeln!(f, "| Mosquitto | | {} | × null |", self.columns.join(" | "))?;
        writeln!(f, "|---|---|{}---:|", "---:|".repeat(self.columns.len()))?;
        for (index, row) in self.rows.iter().enumerate() {
            write!(f, "| {} | {} |", row.broker, row.subject)?;
            for column in 0..self.columns.len() {
                let values = row.rounds.iter().map(|round| round[column]).collect();
                write!(f, " {} |", summary(values))?;
            }
            let ratio = if row.is_reference { Some(1.0) } else { self.ratio(index) };
            writeln!(f, " {} |", ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default())?;
        }
        Ok(())
    }
}

/// The median and, if they differ, the lowest and highest.
fn summary(mut values: Vec<f64>) -> String {
    values.sort_by(f64::total_cmp);
    let (lowest, highest) = (shown(values[0]), shown(values[values.len() - 1]));
    let median = shown(median(values));
    if lowest == highest { median } else { format!("{median} ({lowest}–{highest})") }
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}

/// About three digits.
fn shown(value: f64) -> String {
    match value {
        _ if value.is_nan() => "–".to_owned(),
        _ if value.fract() == 0.0 || value >= 100.0 => format!("{value:.0}"),
        _ if value >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
