//! The recovery kit as codes that a telephone reads. Read in order and put one below the other they give the part that machines read, which is
//! a kit again.

use crate::keys::Kit;
use crate::ops::error::{Class, Doing, Result};
use qrcode::{Color, EcLevel, QrCode};
use std::fmt::Write as _;
use zeroize::Zeroizing;

/// Bytes in one code: on a terminal of 80 columns it still fits with its quiet zone.
const PIECE: usize = 380;
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
