//! The recovery kit as codes that a telephone reads. Read in order and put one below the other they give the part that machines read, which is
//! a kit again.

use crate::keys::Kit;
use crate::ops::error::{Class, Doing, Result};
use qrcode::{Color, EcLevel, QrCode};
use std::fmt::Write as _;
use zeroize::Zeroizing;

/// Bytes in one code: on a terminal of 80 columns it still fits with its quiet zone.
const PIECE: usize = 420;
/// Blank modules around a code, which readers need.
const QUIET: usize = 4;

/// The lines of the kit's block, as many together as go into one code.
fn pieces(text: &str) -> Vec<Zeroizing<String>> {
    let mut pieces: Vec<Zeroizing<String>> = Vec::new();
    for line in Kit::block_of(text) {
        // What stands between the parts of a line does not matter.
        let line = Zeroizing::new(line.split_whitespace().collect::<Vec<_>>().join(" "));
        match pieces.last_mut() {
            Some(piece) if piece.len() + line.len() < PIECE => {
                piece.push_str(&line);
                piece.push('\n');
            }
            _ => {
                let mut piece = Zeroizing::new(String::with_capacity(PIECE + 80));
                piece.push_str(&line);
                piece.push('\n');
                pieces.push(piece);
            }
        }
    }
    pieces
}

/// The modules of a code, row by row; true is dark.
fn modules(piece: &str, level: EcLevel) -> Result<Vec<Vec<bool>>> {
    let code = QrCode::with_error_correction_level(piece.as_bytes(), level);
    let code = code.doing(Class::Failed, || "a part of the kit does not fit into a code".into())?;
    let width = code.width();
    let dark: Vec<bool> = code.to_colors().into_iter().map(|color| color == Color::Dark).collect();
    Ok(dark.chunks(width).map(<[bool]>::to_vec).collect())
}

/// Codes for a terminal: two rows of modules in one line of text, dark on light whatever the terminal's colours are.
pub(super) fn for_terminal(text: &str) -> Result<Zeroizing<String>> {
    let pieces = pieces(text);
    let mut out = Zeroizing::new(String::new());
    for (number, piece) in pieces.iter().enumerate() {
        let rows = modules(piece, EcLevel::L)?;
        let width = rows.len() + 2 * QUIET;
        let dark = |x: usize, y: usize| {
            let row = y.checked_sub(QUIET).and_then(|y| rows.get(y));
            row.and_then(|row| row.get(x.checked_sub(QUIET)?)).copied().unwrap_or(false)
        };
        let _ = writeln!(out, "\ncode {} of {}", number + 1, pieces.len());
        for y in (0..width).step_by(2) {
            out.push_str("\x1b[30;107m");
            for x in 0..width {
                out.push(match (dark(x, y), dark(x, y + 1)) {
                    (true, true) => '█',
                    (true, false) => '▀',
                    (false, true) => '▄',
                    (false, false) => ' ',
                });
            }
            out.push_str("\x1b[0m\n");
        }
    }
    out.push_str(
        "\nRead the codes in their order, and put what they give one below the other into kit.txt.\n",
    );
    Ok(out)
}

/// Modules a code is wide at most, with its quiet zone; and the room below it for its caption.
const CELL: usize = 100;
const CAPTION: usize = 8;
const COLUMNS: usize = 3;

/// A drawing of all codes.
pub(super) fn drawing(text: &str) -> Result<Zeroizing<String>> {
    let pieces = pieces(text);
    let rows = pieces.len().div_ceil(COLUMNS);
    let (width, height) = (COLUMNS * CELL, rows * (CELL + CAPTION));
    let mut out = Zeroizing::new(String::new());
    let _ = writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{}\" height=\"{}\" shape-rendering=\"crispEdges\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>",
        width * 3,
        height * 3
    );
    for (number, piece) in pieces.iter().enumerate() {
        let (left, top) = (number % COLUMNS * CELL, number / COLUMNS * (CELL + CAPTION));
        let mut path = Zeroizing::new(String::new());
        for (y, row) in modules(piece, EcLevel::M)?.iter().enumerate() {
            for (x, _) in row.iter().enumerate().filter(|(_, dark)| **dark) {
                let _ = write!(path, "M{} {}h1v1h-1z", left + QUIET + x, top + QUIET + y);
            }
        }
        let (x, y) = (left + QUIET, top + CELL + CAPTION / 2);
        let _ = writeln!(
            out,
            "<path d=\"{}\"/>\n<text x=\"{x}\" y=\"{y}\" font-family=\"sans-serif\" font-size=\"5\">backstay recovery kit, code {} of {}</text>",
            *path,
            number + 1,
            pieces.len()
        );
    }
    out.push_str("</svg>\n");
    Ok(out)
}

/// A page to print: the text, then the codes.
pub(super) fn page(text: &str) -> Result<Zeroizing<String>> {
    let mut out = Zeroizing::new(String::new());
    out.push_str("<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>backstay recovery kit</title>\n<style>pre { font-size: 9pt } svg { max-width: 100%; height: auto; page-break-before: always }</style>\n<pre>\n");
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            other => out.push(other),
        }
    }
    out.push_str("</pre>\n<p>The same for a telephone: read the codes in their order, and put what they give one below the other into kit.txt.</p>\n");
    out.push_str(&drawing(text)?);
    out.push_str("</html>\n");
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::kit::{KitStore, StoreAt};
    use crate::keys::{NamingKey, Signer, TrustedKey, identity};
    use crate::model::mark::Role;
    use crate::model::{HostId, ObjectId, VaultId};

    fn kit() -> Kit {
        let (identity, recipient) = identity::generate();
        let signer = Signer::generate().unwrap();
        let key = TrustedKey::parse(signer.public_text()).unwrap().with_roles([Role::Host]);
        let path = StoreAt::Path("/srv/a folder & more".into());
        Kit {
            printed: "2026-11-29T08:00:00Z".parse().unwrap(),
            project: "tsushin".into(),
            hostname: "web-1".into(),
            host: HostId::from(signer.id()),
            vault: VaultId::from_random([7; 17]),
            stores: vec![KitStore { name: "local".into(), at: path, settings: Default::default() }],
            identities: vec![identity],
            recipients: vec![recipient],
            signing_key: Some(signer),
            trusted: [key].into_iter().collect(),
            naming_key: Some(NamingKey::generate().unwrap()),
            recover_py: Some(ObjectId::of(b"py")),
            recover_md: Some(ObjectId::of(b"md")),
            heads: Default::default(),
        }
    }

    /// Reads the one code in a picture of `dark` modules, each drawn 4 pixels wide.
    fn read(width: usize, dark: &dyn Fn(usize, usize) -> bool) -> String {
        const SCALE: usize = 4;
        let shade = |x: usize, y: usize| if dark(x / SCALE, y / SCALE) { 0 } else { 255 };
        let mut picture = rqrr::PreparedImage::prepare_from_greyscale(width * SCALE, width * SCALE, shade);
        let grids = picture.detect_grids();
        assert_eq!(grids.len(), 1);
        grids[0].decode().unwrap().1
    }

    fn same(read: &str, kit: &Kit) {
        let again = Kit::parse(read).unwrap();
        assert_eq!(*again.render(), *kit.render());
    }

    #[test]
    fn codes_on_a_terminal_fit_80_columns_and_read_back_they_are_the_kit() {
        let kit = kit();
        let shown = for_terminal(&kit.render()).unwrap();
        let mut all = String::new();
        for code in shown.split("code ").skip(1) {
            let lines: Vec<Vec<char>> = code
                .lines()
                .filter_map(|line| {
                    Some(line.strip_prefix("\x1b[30;107m")?.strip_suffix("\x1b[0m")?.chars().collect())
                })
                .collect();
            let width = lines[0].len();
            assert!(width <= 80, "{width}");
            let dark = |x: usize, y: usize| {
                let halves = lines[y / 2][x];
                halves == '█'
                    || (halves == '▀' && y.is_multiple_of(2))
                    || (halves == '▄' && !y.is_multiple_of(2))
            };
            all.push_str(&read(width, &dark));
        }
        same(&all, &kit);
    }

    #[test]
    fn drawn_codes_read_back_are_the_kit_also_out_of_a_page() {
        let kit = kit();
        for drawn in [drawing(&kit.render()).unwrap(), page(&kit.render()).unwrap()] {
            let mut all = String::new();
            for (number, path) in drawn.split("<path d=\"").skip(1).enumerate() {
                let path = path.split('"').next().unwrap();
                let corner = |n: usize| (n % COLUMNS * CELL, n / COLUMNS * (CELL + CAPTION));
                let (left, top) = corner(number);
                let place = |square: &str| -> (usize, usize) {
                    let (x, y) = square.split('h').next().unwrap().split_once(' ').unwrap();
                    (x.parse::<usize>().unwrap() - left, y.parse::<usize>().unwrap() - top)
                };
                let squares: std::collections::BTreeSet<(usize, usize)> =
                    path.split('M').skip(1).map(place).collect();
                all.push_str(&read(CELL, &|x, y| squares.contains(&(x, y))));
            }
            same(&all, &kit);
        }
    }

    #[test]
    fn a_page_holds_the_text_and_gives_nothing_away_by_its_tags() {
        let page = page(&kit().render()).unwrap();
        assert!(page.contains("-----BEGIN BACKSTAY KIT-----") && page.contains("&amp;"), "{}", &page[..500]);
        assert!(!page.contains("http://") || page.matches("http://").count() == 1, "nothing is fetched");
    }
}
