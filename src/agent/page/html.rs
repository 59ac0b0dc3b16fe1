//! Writing HTML in which every text that comes from elsewhere is text: only words of this program can be markup.

use std::fmt::Write as _;

/// A document as it grows.
#[derive(Debug, Default)]
pub(super) struct Html(String);

impl Html {
    /// Markup, as it stands in the source.
    pub(super) fn raw(&mut self, markup: &'static str) -> &mut Self {
        self.0.push_str(markup);
        self
    }

    /// A text.
    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        for c in text.chars() {
            match c {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                '\n' | '\t' => self.0.push(c),
                c if is_unseen(c) => {
                    // Writing to a String cannot fail.
                    let _ = write!(self.0, "\\u{{{:x}}}", u32::from(c));
                }
                c => self.0.push(c),
            }
        }
        self
    }

    /// An attribute, with the space before it.
    pub(super) fn attribute(&mut self, name: &'static str, value: &str) -> &mut Self {
        self.raw(" ").raw(name).raw("=\"").text(value).raw("\"")
    }

    /// The document.
    pub(super) fn done(self) -> String {
        self.0
    }
}

/// Control characters, and what turns the direction of the text after it.
fn is_unseen(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_never_markup() {
        let mut html = Html::default();
        html.raw("<p")
            .attribute("title", "\" onclick='x'")
            .raw(">")
            .text("<script>&\u{202e}\u{1b}[31m\0é</script>");
        html.raw("</p>");
        assert_eq!(
            html.done(),
            "<p title=\"&quot; onclick=&#39;x&#39;\">&lt;script&gt;&amp;\\u{202e}\\u{1b}[31m\\u{0}é&lt;/script&gt;</p>"
        );
    }
}
