//! Bar charts in SVG, made from tables.

use std::error::Error;

use plotters::coord::Shift;
use plotters::coord::ranged1d::BoldPoints;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::table::{NULL, OWN_FILES, Spread, Table, shown};

/// A chart: the part of a table that it shows, and how.
pub struct Chart {
    /// The name of its file.
    pub name: &'static str,
    pub title: &'static str,
    pub scale: Scale,
    /// Columns of the table, side by side, each with its heading.
    pub columns: &'static [(usize, &'static str)],
    /// Groups with this text in their names, one below the other.
    pub groups: &'static str,
    /// The bars of each group: subjects, each with its label.
    pub subjects: &'static [(&'static str, &'static str)],
}

#[derive(Clone, Copy)]
pub enum Scale {
    Linear,
    Logarithmic,
}

/// A colour on a light page, and its substitute on a dark one.
struct Ink {
    light: RGBColor,
    dark: &'static str,
}

const PAGE: Ink = Ink { light: RGBColor(0xff, 0xff, 0xff), dark: "#0d1117" };
const TEXT: Ink = Ink { light: RGBColor(0x1f, 0x23, 0x28), dark: "#f0f6fc" };
const MUTED: Ink = Ink { light: RGBColor(0x59, 0x63, 0x6e), dark: "#9198a1" };
const GRID: Ink = Ink { light: RGBColor(0xd1, 0xd9, 0xe0), dark: "#3d444d" };
const NULL_BAR: Ink = Ink { light: RGBColor(0x9a, 0xa4, 0xae), dark: "#6e7681" };
const OWN_FILES_BAR: Ink = Ink { light: RGBColor(0xc6, 0x9a, 0x3c), dark: "#9e7c2b" };
const OUR_BAR: Ink = Ink { light: RGBColor(0x21, 0x8b, 0xff), dark: "#388bfd" };
const INKS: [Ink; 7] = [PAGE, TEXT, MUTED, GRID, NULL_BAR, OWN_FILES_BAR, OUR_BAR];

const FONT: &str = "system-ui, sans-serif";
const WIDTH: u32 = 980;
const TITLE_HEIGHT: u32 = 44;
const HEADING_HEIGHT: u32 = 28;
const ROW_HEIGHT: u32 = 26;
const AXIS_HEIGHT: u32 = 34;
const LABELS_WIDTH: u32 = 290;
/// The room for the figure beside the longest bar.
const FIGURES_WIDTH: u32 = 64;

/// A line of the chart: the name of a group, or one of its bars.
enum Row<'t> {
    Group(&'t str),
    Bar { subject: &'static str, label: &'static str, spreads: Vec<Option<Spread>> },
}

type Drawn<T> = Result<T, Box<dyn Error>>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

impl Chart {
    /// The chart of those parts of a table that were measured.
    pub fn draw(&self, table: &Table) -> String {
        let mut svg = String::new();
        self.draw_into(&mut svg, &self.rows(table)).expect("a chart in memory");
        let (start, rest) = svg.split_at(svg.find('>').expect("the svg tag") + 1);
        format!("{start}\n<title>{}</title>\n{}{rest}", self.title, dark_mode())
    }

    fn rows<'t>(&self, table: &'t Table) -> Vec<Row<'t>> {
        let mut rows = Vec::new();
        for group in table.groups().into_iter().filter(|group| group.contains(self.groups)) {
            rows.push(Row::Group(group));
            for &(subject, label) in self.subjects {
                let columns = self.columns.iter();
                let spreads: Vec<_> =
                    columns.map(|&(column, _)| table.spread(group, subject, column)).collect();
                if spreads.iter().any(Option::is_some) {
                    rows.push(Row::Bar { subject, label, spreads });
                }
            }
        }
        rows
    }

    fn draw_into(&self, svg: &mut String, rows: &[Row<'_>]) -> Drawn<()> {
        let height = TITLE_HEIGHT + HEADING_HEIGHT + ROW_HEIGHT * rows.len() as u32 + AXIS_HEIGHT;
        let page = SVGBackend::with_string(svg, (WIDTH, height)).into_drawing_area();
        page.fill(&PAGE.light)?;
        page.draw(&Text::new(self.title, (16, 16), text(18, &TEXT)))?;
        let (labels, panels) = page.margin(TITLE_HEIGHT, 0, 0, 0).split_horizontally(LABELS_WIDTH);
        for (index, row) in rows.iter().enumerate() {
            let middle = HEADING_HEIGHT + ROW_HEIGHT * index as u32 + ROW_HEIGHT / 2;
            let (label, style) = match row {
                Row::Group(name) => (*name, text(14, &MUTED)),
                Row::Bar { label, .. } => (*label, text(14, &TEXT)),
            };
            let style = style.pos(Pos::new(HPos::Left, VPos::Center));
            labels.draw(&Text::new(label, (16, middle as i32), style))?;
        }
        let panels = panels.split_evenly((1, self.columns.len()));
        let (lowest, highest) = range(rows);
        for (number, (panel, (_, heading))) in panels.iter().zip(self.columns).enumerate() {
            panel.draw(&Text::new(*heading, (0, 6), text(14, &MUTED)))?;
            let bar = |row| match row {
                &Row::Group(_) => None,
                Row::Bar { subject, spreads, .. } => spreads[number].map(|spread| (*subject, spread)),
            };
            let bars: Vec<_> = rows.iter().map(bar).collect();
            match self.scale {
                Scale::Linear => draw_bars::<RangedCoordf64>(panel, &(0.0..highest).into(), &bars)?,
                Scale::Logarithmic => {
                    draw_bars::<LogCoord<f64>>(panel, &(lowest..highest).log_scale().into(), &bars)?;
                }
            }
        }
        page.present()?;
        Ok(())
    }
}

/// The range of the axis: from the power of ten below all bars to the end of the longest. It is the same for all
/// panels, so that the eye can compare them.
fn range(rows: &[Row<'_>]) -> (f64, f64) {
    let bars = rows.iter().filter_map(|row| match row {
        Row::Group(_) => None,
        Row::Bar { spreads, .. } => Some(spreads.iter().flatten()),
    });
    let (lowest, highest) = bars.flatten().fold((f64::INFINITY, 0.0_f64), |(lowest, highest), spread| {
        (lowest.min(spread.median), highest.max(spread.highest))
    });
    let below = 10_f64.powf((lowest * 0.9).max(0.1).log10().floor());
    (below, highest.max(below * 10.0))
}

/// Draws a bar up to the median in each row that has one, with a line from the lowest to the highest sample, and the
/// figure.
fn draw_bars<X: Ranged<ValueType = f64>>(
    panel: &Area<'_>,
    axis: &X,
    bars: &[Option<(&'static str, Spread)>],
) -> Drawn<()> {
    let right = panel.dim_in_pixel().0 - FIGURES_WIDTH;
    let x = |value: f64| axis.map(&value.max(axis.range().start), (0, right as i32));
    let (top, bottom) = (HEADING_HEIGHT as i32, (HEADING_HEIGHT + ROW_HEIGHT * bars.len() as u32) as i32);
    for tick in axis.key_points(BoldPoints(5)) {
        panel.draw(&PathElement::new([(x(tick), top), (x(tick), bottom)], GRID.light))?;
        let style = text(12, &MUTED).pos(Pos::new(HPos::Center, VPos::Top));
        panel.draw(&Text::new(shown(tick), (x(tick), bottom + 6), style))?;
    }
    for (row, (subject, spread)) in bars.iter().enumerate().filter_map(|(row, bar)| Some((row, (*bar)?))) {
        let ink = match subject {
            NULL => &NULL_BAR,
            OWN_FILES => &OWN_FILES_BAR,
            _ => &OUR_BAR,
        };
        let middle = top + (ROW_HEIGHT * row as u32 + ROW_HEIGHT / 2) as i32;
        let end = x(spread.median).max(2);
        panel.draw(&Rectangle::new([(0, middle - 8), (end, middle + 8)], ink.light.filled()))?;
        let reach = x(spread.highest);
        panel.draw(&PathElement::new([(x(spread.lowest), middle), (reach, middle)], TEXT.light))?;
        let style = text(13, &TEXT).pos(Pos::new(HPos::Left, VPos::Center));
        panel.draw(&Text::new(shown(spread.median), (end.max(reach) + 6, middle), style))?;
    }
    Ok(())
}

fn text(size: u32, ink: &'static Ink) -> TextStyle<'static> {
    (FONT, size * 5 / 4).into_font().color(&ink.light)
}

/// Adds a style that replaces each colour where the picture is shown on a dark page.
fn dark_mode() -> String {
    let rule = |Ink { light: RGBColor(red, green, blue), dark }: &Ink| {
        let light = format!("#{red:02X}{green:02X}{blue:02X}");
        format!("[fill=\"{light}\"] {{ fill: {dark} }} [stroke=\"{light}\"] {{ stroke: {dark} }}\n")
    };
    let rules: String = INKS.iter().map(rule).collect();
    format!("<style>@media (prefers-color-scheme: dark) {{\n{rules}}}</style>\n")
}
