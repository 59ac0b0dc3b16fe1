//! Snapshots of a project: when, where, how well proved, how large; as pictures and as a table.

use crate::agent::page::body::Part;
use crate::agent::page::html::Html;
use crate::agent::page::parts::{TABLE_END, table};
use crate::agent::page::plot::{Figure, growth, sizes, timeline};
use crate::agent::page::words::{Tone, count, kind, level, of_snapshot};
use crate::ops::doctor::bytes;
use crate::ops::proofs::StoreProof;
use crate::ops::status::SeenSnapshot;

/// So many are shown at once; the others are one key away.
const OPEN: usize = 10;

/// The timeline and the sizes.
pub(super) fn pictures(part: &Part<'_>, html: &mut Html) {
    let all = part.project.snapshots();
    if all.is_empty() {
        return;
    }
    part.section(html, "timeline", "Snapshots over time");
    let names: Vec<&str> = part.project.report.stores.iter().map(|store| store.name.as_str()).collect();
    let id = part.id("picture");
    html.raw("<figure class=\"timeline\"><figcaption").attribute("id", &id).raw(">");
    html.text(&format!("{}, store by store", count(all.len(), "snapshot", "snapshots")));
    html.raw(" <span>(the same stands in the table below)</span></figcaption><div class=\"draw\" role=\"region\" tabindex=\"0\"");
    html.attribute("aria-labelledby", &id).raw(">");
    timeline(html, all, &names, part.view.now, &id);
    html.raw("</div><p class=\"key\">");
    for (tone, word) in [
        (Tone::Good, "good there"),
        (Tone::Unknown, "there, not proved lately"),
        (Tone::Look, "incomplete"),
        (Tone::Bad, "damaged, or a check failed"),
    ] {
        html.raw("<span>").raw(shape(tone)).text(" ").text(word).raw("</span>");
    }
    html.raw("</p></figure><div class=\"pictures\">");
    for (figure, name, title) in [
        (Figure::Size, "size", "Size of what is protected"),
        (Figure::Added, "added", "Added to the stores by each snapshot"),
    ] {
        let id = part.id(name);
        html.raw("<figure><figcaption").attribute("id", &id).raw(">").text(title);
        let words = if figure == Figure::Size {
            growth(all)
        } else {
            all.last().map(|s| format!("{} by the last", bytes(s.added)))
        };
        if let Some(words) = words {
            html.raw(" <span>").text(&words).raw("</span>");
        }
        html.raw("</figcaption><div class=\"draw\" role=\"region\" tabindex=\"0\"")
            .attribute("aria-labelledby", &id)
            .raw(">");
        sizes(html, all, part.view.now, figure, &id);
        html.raw("</div></figure>");
    }
    html.raw("</div></section>");
}

/// A mark as the timeline draws it, for its key.
fn shape(tone: Tone) -> &'static str {
    match tone {
        Tone::Good => "<span class=\"tone good\" aria-hidden=\"true\">●</span>",
        Tone::Unknown => "<span class=\"tone unknown\" aria-hidden=\"true\">○</span>",
        Tone::Look => "<span class=\"tone look\" aria-hidden=\"true\">▲</span>",
        Tone::Bad => "<span class=\"tone bad\" aria-hidden=\"true\">✕</span>",
    }
}

/// The newest snapshots in a table, the others in another one.
pub(super) fn snapshots(part: &Part<'_>, html: &mut Html) {
    part.section(html, "snapshots", "Snapshots");
    let Some(found) = &part.project.found else {
        html.raw("<p class=\"none\">Not known yet.</p></section>");
        return;
    };
    let newest: Vec<&SeenSnapshot> = found.snapshots.iter().rev().collect();
    let (open, folded) = newest.split_at(newest.len().min(OPEN));
    if open.is_empty() {
        html.raw("<p class=\"none\">This host has no snapshot yet.</p></section>");
        return;
    }
    rows(part, html, "The newest snapshots", open);
    if !folded.is_empty() {
        html.raw("<details><summary>")
            .text(&count(folded.len(), "older snapshot", "older snapshots"))
            .raw("</summary>");
        rows(part, html, "Older snapshots", folded);
        if found.older > 0 {
            html.raw("<p class=\"none\">").text(&found.older.to_string());
            html.raw(" still older ones are not shown: <code>backstay list</code> has them.</p>");
        }
        html.raw("</details>");
    }
    html.raw("</section>");
}

fn rows(part: &Part<'_>, html: &mut Html, caption: &str, snapshots: &[&SeenSnapshot]) {
    table(html, caption, &["Made", "State", "In which stores, and how proved", "Size", "Added"]);
    for snapshot in snapshots {
        html.raw("<tr><th scope=\"row\">").moment(snapshot.started).raw(" <span class=\"id\">");
        html.text(snapshot.id.as_str()).raw("</span></th><td>");
        let (tone, word) = of_snapshot(snapshot);
        html.tone(tone, &word);
        let mut more: Vec<String> = kind(snapshot.kind).map(str::to_owned).into_iter().collect();
        more.extend(snapshot.milestone.then(|| "milestone".to_owned()));
        more.extend(snapshot.tags.iter().map(|tag| format!("tag {tag}")));
        if !more.is_empty() {
            html.raw("<span class=\"more\">").text(&more.join(", ")).raw("</span>");
        }
        html.raw("</td><td>");
        if snapshot.proofs.is_empty() {
            html.raw("<span class=\"none\">in no store that was read</span>");
        }
        snapshot.proofs.iter().for_each(|proof| of_store(part, html, proof));
        html.raw("</td><td class=\"number\">").text(&bytes(snapshot.size));
        html.raw("</td><td class=\"number\">").text(&bytes(snapshot.added)).raw("</td></tr>");
    }
    html.raw(TABLE_END);
}

/// A snapshot in a store: the last verdict and the last drill.
fn of_store(part: &Part<'_>, html: &mut Html, proof: &StoreProof) {
    let (tone, word) = match (proof.good, proof.bad.len()) {
        (_, bad @ 1..) => {
            (Tone::Bad, format!("{}: {} missing or damaged", proof.store, count(bad, "object", "objects")))
        }
        (true, _) => (Tone::Good, proof.store.clone()),
        (false, _) => (Tone::Unknown, format!("{}: not proved lately", proof.store)),
    };
    html.raw("<div>").tone(tone, &word);
    let said = [&proof.last_verdict, &proof.last_drill].into_iter().flatten();
    for said in said {
        let well = if said.good { "" } else { ", not well" };
        html.raw(" <span class=\"said\">").text(&format!("{}{well} ", level(said.level)));
        let seconds = part.view.now.as_second() - said.at.as_second();
        html.text(&crate::ops::doctor::span(seconds)).raw(" ago</span>");
    }
    html.raw("</div>");
}
