//! Tables for people and for programs.

use std::fmt::Write as _;

/// What a scenario found out.
pub(crate) struct Table {
    pub(crate) name: &'static str,
    /// What happened, for whom.
    pub(crate) about: String,
    /// Of the figures; the first column is the stack.
    pub(crate) columns: Vec<&'static str>,
    pub(crate) rows: Vec<(&'static str, Vec<Cell>)>,
}

/// One figure.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cell {
    /// A number, with so many decimals.
    Number(f64, usize),
    /// A share, shown in percent.
    Share(f64),
    /// How often something happened of how many times.
    Of(u32, u32),
    /// It did not happen.
    Never,
    /// It cannot happen.
    Nothing,
}

impl Cell {
    /// Seconds with one decimal, or that they did not end.
    pub(crate) fn seconds(seconds: Option<f64>) -> Self {
        seconds.map_or(Self::Never, |seconds| Self::Number(seconds, 1))
    }

    fn text(self) -> String {
        match self {
            Self::Number(number, decimals) => format!("{number:.decimals$}"),
            Self::Share(share) => format!("{:.1} %", 100.0 * share),
            Self::Of(part, whole) => format!("{part}/{whole}"),
            Self::Never => "never".to_owned(),
            Self::Nothing => "-".to_owned(),
        }
    }

    fn json(self) -> String {
        match self {
            Self::Number(number, decimals) => format!("{number:.decimals$}"),
            Self::Share(share) => format!("{share:.4}"),
            Self::Of(part, whole) => format!("\"{part}/{whole}\""),
            Self::Never => "\"never\"".to_owned(),
            Self::Nothing => "null".to_owned(),
        }
    }
}

impl Table {
    /// Writes the table in Markdown, aligned so that it is read as well as it is.
    pub(crate) fn text(&self) -> String {
        let mut lines: Vec<Vec<String>> = Vec::new();
        lines.push(std::iter::once("stack").chain(self.columns.clone()).map(Into::into).collect());
        for (stack, cells) in &self.rows {
            let cells = cells.iter().map(|cell| cell.text());
            lines.push(std::iter::once((*stack).to_owned()).chain(cells).collect());
        }
        let width = |column: usize| {
            lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default()
        };
        let widths: Vec<usize> = (0..=self.columns.len()).map(width).collect();
        let mut text = format!("## {}\n\n{}\n\n", self.name, self.about);
        for (n, line) in lines.iter().enumerate() {
            for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
                let padding = " ".repeat(width - cell.chars().count());
                let (left, right) = if column == 0 { ("", &*padding) } else { (&*padding, "") };
                // Writing to a string does not fail.
                let _ = write!(text, "| {left}{cell}{right} ");
            }
            text.push_str("|\n");
            if n == 0 {
                for (column, width) in widths.iter().enumerate() {
                    let end = if column == 0 { "-" } else { ":" };
                    let _ = write!(text, "|{}{end}", "-".repeat(width + 1));
                }
                text.push_str("|\n");
            }
        }
        text
    }

    /// Writes the table as a JSON object.
    pub(crate) fn json(&self) -> String {
        let rows = self.rows.iter().map(|(stack, cells)| {
            let cells = self.columns.iter().zip(cells);
            let cells = cells.map(|(column, cell)| format!("{}:{}", quoted(column), cell.json()));
            let cells: Vec<String> = cells.collect();
            format!("{{\"stack\":{},{}}}", quoted(stack), cells.join(","))
        });
        let rows: Vec<String> = rows.collect();
        format!(
            "{{\"name\":{},\"about\":{},\"rows\":[{}]}}",
            quoted(self.name),
            quoted(&self.about),
            rows.join(",")
        )
    }
}

/// Our texts hold no control characters.
pub(crate) fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
