//! Colors for people at a terminal, and nothing for everybody else.

use std::io::IsTerminal;

/// Whether what is written is colored.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Style {
    is_colored: bool,
}

/// When to color.
#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
pub(crate) enum Color {
    /// At a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl Color {
    /// Returns how to write to `stream`.
    pub(crate) fn on(self, stream: &impl IsTerminal) -> Style {
        let is_colored = match self {
            Self::Auto => {
                stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
            }
            Self::Always => true,
            Self::Never => false,
        };
        Style { is_colored }
    }
}

impl Style {
    pub(crate) fn good(self, text: &str) -> String {
        self.paint("32", text)
    }

    pub(crate) fn warn(self, text: &str) -> String {
        self.paint("33", text)
    }

    pub(crate) fn bad(self, text: &str) -> String {
        self.paint("31", text)
    }

    pub(crate) fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    pub(crate) fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.is_colored { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}
