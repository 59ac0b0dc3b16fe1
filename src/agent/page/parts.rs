//! What is protected, where it lies, what is at work and what went wrong: the tables of a project.

use crate::agent::page::body::Part;
use crate::agent::page::html::Html;
use crate::agent::page::view::{Project, Running};
use crate::agent::page::words::{Tone, count};
use crate::agent::runs::Trouble;
use crate::model::record::CheckResult;
use crate::ops::doctor::{bytes, span};
use crate::ops::status::{Brief, ComponentStatus, StoreStatus};

/// A table that a keyboard can move where it is wider than the page.
pub(super) fn table(html: &mut Html, caption: &str, heads: &[&'static str]) {
    html.raw("<div class=\"wide\" role=\"region\" tabindex=\"0\"").attribute("aria-label", caption);
    html.raw("><table><caption>").text(caption).raw("</caption><thead><tr>");
    for head in heads {
        html.raw("<th scope=\"col\">").raw(head).raw("</th>");
    }
    html.raw("</tr></thead><tbody>");
}

pub(super) const TABLE_END: &str = "</tbody></table></div>";

fn brief(html: &mut Html, part: &Part<'_>, brief: Option<&Brief>) {
    match brief {
        Some(brief) => html
            .ago(brief.started, part.view.now)
            .raw("<span class=\"id\">")
            .text(brief.id.as_str())
            .raw("</span>"),
        None => html.tone(Tone::Bad, "none"),
    };
}

/// Each component: its last good snapshot, and how well that is proved.
pub(super) fn protected(part: &Part<'_>, html: &mut Html) {
    part.section(html, "protected", "What is protected");
    let components = &part.project.report.components;
    match (&part.project.found, components.is_empty()) {
        (None, _) => {
            html.raw("<p class=\"none\">Not known yet.</p>");
        }
        (Some(_), true) => {
            html.raw("<p class=\"none\">The configuration names no component.</p>");
        }
        (Some(_), false) => {
            let heads = [
                "Component",
                "State",
                "Last good snapshot",
                "Last read in a store",
                "Last brought back in a drill",
            ];
            table(html, "Components, and since when they are proved", &heads);
            components.iter().for_each(|component| of_component(part, html, component));
            html.raw(TABLE_END);
        }
    }
    html.raw("</section>");
}

fn of_component(part: &Part<'_>, html: &mut Html, component: &ComponentStatus) {
    let now = part.view.now;
    html.raw("<tr><th scope=\"row\">").text(&component.name);
    let last = part.project.snapshots().iter().rev();
    let size = last.flat_map(|s| &s.parts).find(|part| part.name == component.name).map(|part| part.size);
    if let Some(size) = size {
        html.raw("<span class=\"more\"> ").text(&bytes(size)).raw("</span>");
    }
    html.raw("</th><td>");
    let (tone, word) = state_of(component);
    html.tone(tone, word);
    component.frozen.iter().for_each(|why| {
        html.raw("<span class=\"more\">retention lets nothing of it go: ").text(why).raw("</span>");
    });
    html.raw("</td><td>");
    brief(html, part, component.newest_good.as_ref());
    let proven = part.project.found.as_ref().and_then(|found| found.proven.get(&component.name));
    for proof in [proven.and_then(|p| p.read.as_ref()), proven.and_then(|p| p.drill.as_ref())] {
        html.raw("</td><td>");
        match proof {
            Some(proof) => html.proof(proof, now),
            None => html.raw("<span class=\"none\">never</span>"),
        };
    }
    html.raw("</td></tr>");
}

fn state_of(component: &ComponentStatus) -> (Tone, &'static str) {
    let newer = |(newest, good): (&Brief, &Brief)| newest.id != good.id;
    match (&component.newest, &component.newest_good) {
        (None, _) => (Tone::Bad, "in no snapshot"),
        (Some(_), _) if component.check == Some(CheckResult::Failed) => (Tone::Bad, "its check failed"),
        (Some(_), None) => (Tone::Bad, "no good snapshot"),
        (Some(newest), Some(_)) if !newest.complete => (Tone::Look, "newest is incomplete"),
        (Some(newest), Some(good)) if newer((newest, good)) => (Tone::Look, "newest is not proved"),
        (Some(_), Some(_)) => (Tone::Good, "good"),
    }
}

/// Each store: what it has, and what it lacks.
pub(super) fn stores(part: &Part<'_>, html: &mut Html) {
    part.section(html, "stores", "Stores");
    if part.project.report.stores.is_empty() {
        html.raw("<p class=\"none\">Not known yet.</p></section>");
        return;
    }
    let heads =
        ["Store", "State", "Newest good snapshot there", "Not there yet", "Last pruned", "Last reached"];
    table(html, "Stores, and what each of them lacks", &heads);
    for store in &part.project.report.stores {
        html.raw("<tr><th scope=\"row\">").text(&store.name).raw("<span class=\"at\">").text(&store.location);
        html.raw("</span></th><td>");
        match (store.here, &store.problem) {
            (true, None) => html.tone(Tone::Good, "here"),
            (true, Some(problem)) => {
                html.tone(Tone::Bad, "look at it").raw("<span class=\"more\">").text(problem).raw("</span>")
            }
            (false, problem) => {
                let problem = problem.as_deref().unwrap_or_default();
                html.tone(Tone::Look, "away").raw("<span class=\"more\">").text(problem).raw("</span>")
            }
        };
        let reached = part.project.found.as_ref().and_then(|found| found.reached.get(&store.name));
        let known = if store.here { store } else { reached.map_or(store, |reached| &reached.store) };
        html.raw("</td><td>");
        brief(html, part, known.newest_good.as_ref());
        html.raw("</td><td>");
        lacks(html, part.project, known, store.here);
        html.raw("</td><td>");
        match (known.last_prune, &known.last_prune_by) {
            (Some(at), Some(by)) => {
                html.ago(at, part.view.now).raw("<span class=\"more\">by ").text(by).raw("</span>")
            }
            _ => html.raw("<span class=\"none\">never</span>"),
        };
        html.raw("</td><td>");
        match reached {
            Some(reached) => html.ago(reached.at, part.view.now),
            None => html.raw("<span class=\"none\">never</span>"),
        };
        html.raw("</td></tr>");
    }
    html.raw(TABLE_END).raw("</section>");
}

/// What another store has, and this one does not.
fn lacks(html: &mut Html, project: &Project, store: &StoreStatus, here: bool) {
    let newest = store.newest.as_ref().map(|newest| newest.started);
    let newer = project
        .snapshots()
        .iter()
        .filter(|s| s.void.is_none() && newest.is_none_or(|newest| s.started > newest));
    let snapshots = newer.clone().count();
    let since = newer.min_by_key(|s| s.started).map(|s| s.started);
    match (snapshots, store.entries_behind, here) {
        (0, 0, true) => {
            html.tone(Tone::Good, "nothing: it has everything");
        }
        (0, 0, false) => {
            html.text("nothing that is known here");
        }
        (0, entries, _) => {
            html.tone(Tone::Look, &count(usize::try_from(entries).unwrap_or(usize::MAX), "entry", "entries"));
            html.raw("<span class=\"more\">verdicts and marks; it has every snapshot</span>");
        }
        (snapshots, ..) => {
            html.tone(Tone::Look, &count(snapshots, "snapshot", "snapshots"));
            if let Some(since) = since {
                html.raw("<span class=\"more\">the first of ").moment(since).raw("</span>");
            }
        }
    }
}

/// What runs now.
pub(super) fn running(part: &Part<'_>, html: &mut Html) {
    html.raw("<div class=\"now\">");
    if part.project.running.is_empty() {
        html.raw("<p>Nothing runs now.</p>");
    }
    part.project.running.iter().for_each(|running| of_running(part, html, running));
    html.raw("</div>");
}

/// What comes next, and how it went last.
pub(super) fn work(part: &Part<'_>, html: &mut Html) {
    let (project, now) = (part.project, part.view.now);
    part.section(html, "work", "What comes next");
    let Some(schedule) = &project.report.schedule else {
        html.raw(
            "<p class=\"none\">The configuration has no schedule: nothing runs by itself.</p></section>",
        );
        return;
    };
    table(html, "The schedule", &["Job", "Next", "Last run", "How it ended"]);
    for job in &schedule.jobs {
        html.raw("<tr><th scope=\"row\">").text(&job.job).raw("</th><td>");
        let again = project.again.iter().find(|(name, _)| *name == job.job);
        match (again, job.overdue_seconds, job.next) {
            (Some((_, at)), ..) => html.tone(Tone::Look, "tried again ").moment(*at),
            (None, Some(late), _) => html.tone(Tone::Bad, &format!("due for {}", span(late))),
            (None, None, Some(next)) if next <= now => html.raw("now"),
            (None, None, Some(next)) => {
                html.text(&format!("in {} ", span(next.as_second() - now.as_second())))
                    .raw("<span class=\"at\">");
                html.moment(next).raw("</span>")
            }
            (None, None, None) => html.raw("never"),
        };
        html.raw("</td><td>");
        match job.last_began {
            Some(began) => html.ago(began, now),
            None => html.raw("<span class=\"none\">not yet</span>"),
        };
        html.raw("</td><td>");
        match job.last_code {
            Some(0) => html.tone(Tone::Good, "well"),
            Some(3) => html.tone(Tone::Look, "incomplete (exit code 3)"),
            Some(4) => html.tone(Tone::Look, "not in every store (exit code 4)"),
            Some(code) => html.tone(Tone::Bad, &format!("exit code {code}")),
            None => html.raw(""),
        };
        html.raw("</td></tr>");
    }
    html.raw(TABLE_END).raw("</section>");
}

fn of_running(part: &Part<'_>, html: &mut Html, running: &Running) {
    let lasts = part.view.now.as_second() - running.began.as_second();
    html.raw("<p><strong>").text(&running.what).raw("</strong> runs for ").text(&span(lasts.max(0)));
    match &running.progress {
        Some(progress) => {
            html.text(&format!(": {}", progress.phase));
            let total = progress.total.filter(|total| *total > 0);
            match total {
                Some(total) => {
                    html.text(&format!(", {} of {} ", bytes(progress.done.min(total)), bytes(total)))
                        .raw("<progress");
                    html.attribute("aria-label", &running.what).attribute("max", &total.to_string());
                    html.attribute("value", &progress.done.min(total).to_string()).raw("></progress>");
                }
                None if progress.done > 0 => {
                    html.text(&format!(", {}", bytes(progress.done)));
                }
                None => {}
            }
        }
        None => {
            html.raw("; how far it is was not said");
        }
    }
    html.raw("</p>");
}

/// The last run of each command that did not end well.
pub(super) fn problems(part: &Part<'_>, html: &mut Html) {
    part.section(html, "problems", "Last problems");
    let of = |(name, task): (&String, &crate::agent::runs::Task)| {
        Some((name.clone(), task.well, task.trouble.clone()?))
    };
    let mut troubles: Vec<(String, Option<crate::model::Timestamp>, Trouble)> =
        part.project.tasks.iter().filter_map(of).collect();
    troubles.sort_by_key(|(_, _, trouble)| std::cmp::Reverse(trouble.run.ended));
    if troubles.is_empty() {
        html.raw(
            "<p class=\"none\">No run that is remembered on this machine ended with a problem.</p></section>",
        );
        return;
    }
    html.raw("<ul class=\"todo\">");
    for (name, well, trouble) in troubles {
        let over = well.is_some_and(|well| well > trouble.run.ended);
        html.raw("<li class=\"")
            .raw(if over { "" } else { "look" })
            .raw("\"><strong>")
            .text(&name)
            .raw("</strong> ");
        html.text(&format!("ended with exit code {} ", trouble.run.code))
            .ago(trouble.run.ended, part.view.now)
            .raw(" ");
        match well.filter(|_| over) {
            Some(well) => html.tone(Tone::Good, "over: it last went well ").moment(well),
            None => html.tone(Tone::Look, "it did not go well since"),
        };
        html.raw("<details><summary>What <span>")
            .text(&name)
            .raw("</span> said</summary><pre>")
            .text(&trouble.text);
        html.raw("</pre></details></li>");
    }
    html.raw("</ul></section>");
}
