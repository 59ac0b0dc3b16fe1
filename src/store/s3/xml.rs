//! Answers in XML: small trees, whole or not at all.

use quick_xml::Reader;
use quick_xml::events::Event;

/// Deeper than any answer of S3.
const MAX_DEPTH: usize = 16;

/// An element with its text and what is in it. Names are without prefixes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::store) struct Element {
    pub(in crate::store) name: String,
    pub(in crate::store) text: String,
    pub(in crate::store) children: Vec<Element>,
}

impl Element {
    /// The children called `name`.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Self> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// The text of the first child called `name`.
    pub(super) fn text_of(&self, name: &str) -> Option<&str> {
        self.children.iter().find(|child| child.name == name).map(|child| child.text.trim())
    }
}

/// The tree in `bytes`; `None` unless every element is closed and nothing but white space follows.
pub(in crate::store) fn parse(bytes: &[u8]) -> Option<Element> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut reader = Reader::from_str(text);
    let mut open: Vec<Element> = Vec::new();
    let mut root = None;
    loop {
        match reader.read_event().ok()? {
            Event::Start(start) => {
                let name = String::from_utf8(start.local_name().as_ref().to_vec()).ok()?;
                if open.len() == MAX_DEPTH || root.is_some() {
                    return None;
                }
                open.push(Element { name, ..Element::default() });
            }
            Event::Empty(start) => {
                let name = String::from_utf8(start.local_name().as_ref().to_vec()).ok()?;
                close(Element { name, ..Element::default() }, &mut open, &mut root)?;
            }
            Event::End(_) => {
                let done = open.pop()?;
                close(done, &mut open, &mut root)?;
            }
            Event::Text(piece) => add(&mut open, &piece.decode().ok()?)?,
            Event::CData(piece) => add(&mut open, &piece.decode().ok()?)?,
            Event::GeneralRef(reference) => add(&mut open, &meaning(&reference)?)?,
            Event::Eof => return root.filter(|_| open.is_empty()),
            Event::DocType(_) => return None,
            Event::Decl(_) | Event::PI(_) | Event::Comment(_) => {}
        }
    }
}

fn meaning(reference: &quick_xml::events::BytesRef<'_>) -> Option<String> {
    if let Some(character) = reference.resolve_char_ref().ok()? {
        return Some(character.to_string());
    }
    let name = reference.decode().ok()?;
    quick_xml::escape::resolve_predefined_entity(&name).map(str::to_owned)
}

fn add(open: &mut [Element], text: &str) -> Option<()> {
    match open.last_mut() {
        Some(element) => element.text.push_str(text),
        None if text.trim().is_empty() => {}
        None => return None,
    }
    Some(())
}

fn close(done: Element, open: &mut [Element], root: &mut Option<Element>) -> Option<()> {
    match open.last_mut() {
        Some(parent) => parent.children.push(done),
        None if root.is_none() => *root = Some(done),
        None => return None,
    }
    Some(())
}

/// `text` as it stands between tags.
pub(super) fn escape(text: &str) -> String {
    quick_xml::escape::escape(text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_read_with_its_entities_and_namespaces() {
        let text = br#"<?xml version="1.0"?><a:R xmlns:a="x"><K>p&amp;q&#x41;</K><E/><K> two </K></a:R>
"#;
        let root = parse(text).unwrap();
        assert_eq!((root.name.as_str(), root.text_of("K"), root.text_of("E")), ("R", Some("p&qA"), Some("")));
        assert_eq!(root.all("K").count(), 2);
    }

    #[test]
    fn half_a_tree_is_none() {
        let whole = "<R><K>x</K><K>y</K></R>";
        assert!(parse(whole.as_bytes()).is_some());
        for end in 0..whole.len() {
            assert_eq!(parse(&whole.as_bytes()[..end]), None, "{}", &whole[..end]);
        }
        for wrong in
            ["<R></R><R></R>", "<R></R>x", "x<R></R>", "<!DOCTYPE html><R></R>", "<R>&other;</R>", "<R></K>"]
        {
            assert_eq!(parse(wrong.as_bytes()), None, "{wrong}");
        }
        assert_eq!(parse("<a>".repeat(10_000).as_bytes()), None);
    }
}
