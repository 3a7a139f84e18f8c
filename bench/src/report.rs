//! The table and the JSON file.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

/// What a figure has to reach. It is printed beside it and never ends the run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    must: f64,
    aim: f64,
    /// Whether more is better.
    upwards: bool,
}

impl Target {
    pub(crate) fn at_least(must: f64, aim: f64) -> Self {
        Self {
            must,
            aim,
            upwards: true,
        }
    }

    pub(crate) fn at_most(must: f64, aim: f64) -> Self {
        Self {
            must,
            aim,
            upwards: false,
        }
    }

    fn verdict(self, value: f64) -> &'static str {
        let reached = |bound: f64| {
            if self.upwards {
                value >= bound
            } else {
                value <= bound
            }
        };
        match (reached(self.must), reached(self.aim)) {
            (_, true) => "aim reached",
            (true, false) => "reached",
            (false, false) => "not reached",
        }
    }
}

/// One line of the table: a value for each round.
struct Figure {
    what: String,
    unit: &'static str,
    values: Vec<f64>,
    target: Option<Target>,
}

impl Figure {
    /// The middle of the rounds; of an even number, the mean of the two in the middle.
    fn median(&self) -> f64 {
        let sorted = self.sorted();
        let middle = sorted.len() / 2;
        match (sorted.get(middle), sorted.len() % 2) {
            (Some(value), 1) => *value,
            (Some(value), _) => f64::midpoint(sorted[middle - 1], *value),
            (None, _) => f64::NAN,
        }
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }

    fn line(&self) -> String {
        let (sorted, show) = (self.sorted(), |value: f64| shown(value, self.unit));
        let range = match (sorted.first(), sorted.last()) {
            (Some(low), Some(high)) if sorted.len() > 1 => {
                format!("{}–{}", show(*low), show(*high))
            }
            _ => String::new(),
        };
        let (must, aim, verdict) = self.target.map_or_else(Default::default, |target| {
            let verdict = target.verdict(self.median());
            (show(target.must), show(target.aim), verdict)
        });
        let (what, unit, median) = (&self.what, self.unit, show(self.median()));
        format!("| {what} | {unit} | {median} | {range} | {must} | {aim} | {verdict} |")
    }

    fn json(&self) -> Value {
        let mut figure = json!({
            "figure": self.what, "unit": self.unit, "median": self.median(), "rounds": self.values,
        });
        if let Some(target) = self.target {
            figure["must"] = target.must.into();
            figure["aim"] = target.aim.into();
            figure["verdict"] = target.verdict(self.median()).into();
        }
        figure
    }
}

/// Three significant digits or so, and no digit that means nothing.
fn shown(value: f64, unit: &str) -> String {
    match value.abs() {
        _ if unit == SHARE => format!("{value:.3}"),
        ..10.0 => format!("{value:.2}"),
        ..100.0 => format!("{value:.1}"),
        _ => grouped(value),
    }
}

/// A whole number with its thousands apart.
pub(crate) fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0.0 {
        format!("-{text}")
    } else {
        text
    }
}

/// The unit of what is divided by the bare rate around it.
pub(crate) const SHARE: &str = "of bare";

/// All figures, in the order in which they were first measured.
#[derive(Default)]
pub(crate) struct Report {
    figures: Vec<Figure>,
}

impl Report {
    /// One more round of a figure.
    pub(crate) fn add(&mut self, what: impl Into<String>, unit: &'static str, value: f64) {
        self.put(what.into(), unit, value, None);
    }

    /// One more round of a figure that has to reach something.
    pub(crate) fn judge(
        &mut self,
        what: impl Into<String>,
        unit: &'static str,
        value: f64,
        target: Target,
    ) {
        self.put(what.into(), unit, value, Some(target));
    }

    fn put(&mut self, what: String, unit: &'static str, value: f64, target: Option<Target>) {
        let same = |figure: &&mut Figure| figure.what == what && figure.unit == unit;
        match self.figures.iter_mut().find(same) {
            Some(figure) => figure.values.push(value),
            None => self.figures.push(Figure {
                what,
                unit,
                values: vec![value],
                target,
            }),
        }
    }

    /// The median of a figure, if it was measured.
    pub(crate) fn median(&self, what: &str, unit: &str) -> Option<f64> {
        let mut figures = self.figures.iter();
        let found = figures.find(|figure| figure.what == what && figure.unit == unit);
        found.map(Figure::median)
    }

    /// Prints the table and writes the file.
    pub(crate) fn finish(&self, about: Value, out: &Path) -> Result<()> {
        println!(
            "\n| figure | unit | median | lowest–highest | must | aim | |\n|---|---|---:|---|---:|---:|---|"
        );
        for figure in &self.figures {
            println!("{}", figure.line());
        }
        let mut file = about;
        file["figures"] = self.figures.iter().map(Figure::json).collect();
        let text = serde_json::to_string_pretty(&file)? + "\n";
        std::fs::write(out, text).with_context(|| format!("cannot write {}", out.display()))?;
        println!("\nwritten to {}", out.display());
        Ok(())
    }
}
