//! The page as HTML: the most important thing first and large, then what it rests on.

use crate::agent::page::html::Html;
use crate::agent::page::parts::{problems, protected, running, stores, work};
use crate::agent::page::snapshots::{pictures, snapshots};
use crate::agent::page::view::{Project, Verdict, View};
use crate::agent::page::words::{count, zone};
use crate::ops::doctor::span;
use crate::ops::status::State;

/// All that says how the page looks; its hash stands in the policy that browsers are given.
pub(super) const STYLE: &str = include_str!("style.css");

/// Seconds between two times that a browser reloads the page, where that was asked for.
const EVERY: &str = "60";
/// What asks for it.
pub(super) const RELOADING: &str = "every=60";

/// The document.
pub(super) fn page(view: &View, reloading: bool) -> String {
    let mut html = Html::default();
    head(&mut html, view, reloading);
    html.raw("<body><a class=\"skip\" href=\"#status\">Skip to the status</a>");
    top(&mut html, view, reloading);
    html.raw("<main id=\"status\" tabindex=\"-1\">");
    let several = view.projects.len() > 1;
    if several {
        html.raw("<h1>")
            .text(&count(view.projects.len(), "project", "projects"))
            .raw(" on ")
            .text(&view.host)
            .raw("</h1>");
    }
    for (place, project) in view.projects.iter().enumerate() {
        let part = Part { view, project, place, several };
        part.write(&mut html);
    }
    html.raw("</main>");
    foot(&mut html, view);
    html.raw("</body></html>\n");
    html.done()
}

fn head(html: &mut Html, view: &View, reloading: bool) {
    html.raw("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">");
    html.raw("<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><meta name=\"color-scheme\" content=\"light dark\">");
    if reloading {
        html.raw("<meta http-equiv=\"refresh\"").attribute("content", EVERY).raw(">");
    }
    let names: Vec<&str> = view.projects.iter().map(|project| project.name.as_str()).collect();
    html.raw("<title>")
        .text(&format!("{}: {}", names.join(", "), view.verdict().word()))
        .raw(" (backstay)</title>");
    html.raw("<style>").raw(STYLE).raw("</style></head>");
}

fn top(html: &mut Html, view: &View, reloading: bool) {
    html.raw("<header class=\"top\"><p class=\"brand\"><strong>backstay</strong> on ")
        .text(&view.host)
        .raw("</p>");
    html.raw("<p>As of ").moment(view.now).raw("</p><p>");
    html.raw(match reloading {
        true => "Reloaded every minute: <a href=\"/\">stop that</a>",
        false => "<a href=\"/\">Reload</a> · <a href=\"/?every=60\">every minute</a>",
    });
    html.raw("</p>");
    if view.projects.len() > 1 {
        html.raw("<nav class=\"projects\" aria-label=\"Projects\"><ul>");
        for (place, project) in view.projects.iter().enumerate() {
            html.raw("<li><a").attribute("href", &format!("#project-{place}")).raw(">").text(&project.name);
            html.raw("</a> ").tone(project.verdict.tone(), project.verdict.word()).raw("</li>");
        }
        html.raw("</ul></nav>");
    }
    html.raw("</header>");
}

fn foot(html: &mut Html, view: &View) {
    html.raw("<footer class=\"foot\"><p>Times are ").text(&zone(view.now));
    html.raw(". This page is only read, and asks no store: it tells what this machine knows. <code>backstay status</code> looks now, ");
    html.raw("<code>backstay doctor</code> says more. <a href=\"/metrics\">Metrics</a>, <a href=\"/status.json\">JSON</a>. backstay ");
    html.text(env!("CARGO_PKG_VERSION")).raw(".</p></footer>");
}

/// A project on the page.
pub(super) struct Part<'a> {
    pub(super) view: &'a View,
    pub(super) project: &'a Project,
    place: usize,
    /// It is not alone, and its headings lie one level lower.
    several: bool,
}

impl Part<'_> {
    /// A name that no other project's element has.
    pub(super) fn id(&self, name: &str) -> String {
        format!("{name}-{}", self.place)
    }

    /// Begins a section with its heading.
    pub(super) fn section(&self, html: &mut Html, name: &str, title: &str) {
        let id = self.id(name);
        html.raw("<section class=\"part\"").attribute("aria-labelledby", &id).raw(">");
        html.raw(if self.several { "<h3" } else { "<h2" }).attribute("id", &id).raw(">").text(title);
        html.raw(if self.several { "</h3>" } else { "</h2>" });
    }

    fn write(&self, html: &mut Html) {
        html.raw("<section class=\"project\"").attribute("id", &self.id("project"));
        html.attribute("aria-labelledby", &self.id("verdict")).raw(">");
        self.verdict(html);
        self.concerns(html);
        protected(self, html);
        stores(self, html);
        pictures(self, html);
        work(self, html);
        snapshots(self, html);
        problems(self, html);
        html.raw("</section>");
    }

    fn verdict(&self, html: &mut Html) {
        let (project, verdict) = (self.project, self.project.verdict);
        html.raw("<header class=\"verdict ")
            .raw(verdict.tone().class())
            .raw("\"><p class=\"of\">")
            .text(&project.name);
        html.raw("</p>").raw(if self.several { "<h2 class=\"big\"" } else { "<h1 class=\"big\"" });
        html.attribute("id", &self.id("verdict")).raw(">").text(verdict.word());
        html.raw(if self.several { "</h2>" } else { "</h1>" });
        html.raw("<p class=\"lead\">").text(&self.lead()).raw("</p>");
        if project.found.is_some() {
            self.facts(html);
        }
        running(self, html);
        html.raw("</header>");
    }

    /// The verdict in a sentence.
    fn lead(&self) -> String {
        let project = self.project;
        let first = project.report.concerns.first().map(|concern| concern.what.clone()).unwrap_or_default();
        let components = project.report.components.len();
        let good = match project.oldest_good().and_then(|c| c.newest_good.as_ref()) {
            Some(oldest) if components == 1 => {
                format!("Its component has a good snapshot, {} old.", span(oldest.age_seconds))
            }
            Some(oldest) => format!(
                "All {components} components have a good snapshot; the oldest of these is {} old.",
                span(oldest.age_seconds)
            ),
            None => String::new(),
        };
        match project.verdict {
            Verdict::Unknown => {
                "The agent has not looked at the stores yet. It does that by itself, in a moment; then this page says more.".to_owned()
            }
            Verdict::Protected if components == 0 => "There is nothing to back up, and nothing is wrong.".to_owned(),
            Verdict::Protected => good,
            Verdict::Look => format!("{good} {}", told(project.report.concerns.len(), &first)).trim().to_owned(),
            Verdict::Danger => told(project.report.concerns.len(), &first),
        }
    }

    fn facts(&self, html: &mut Html) {
        let (project, now) = (self.project, self.view.now);
        html.raw("<dl class=\"facts\"><div><dt>Last good snapshot of all</dt><dd>");
        match project.oldest_good().and_then(|c| c.newest_good.as_ref()) {
            Some(good) => html.ago(good.started, now),
            None => html.raw("never"),
        };
        html.raw("</dd></div><div><dt>Last brought back in a drill</dt><dd>");
        match &project.report.last_drill {
            Some(drill) => {
                html.ago(drill.time, now).raw("<span class=\"more\">from ").text(&drill.store);
                html.raw(if drill.good { ", well</span>" } else { ", not well</span>" })
            }
            None => html.raw("never<span class=\"more\">no drill was ever made</span>"),
        };
        let stores = &project.report.stores;
        let whole = stores.iter().filter(|store| store.here && store.entries_behind == 0).count();
        html.raw("</dd></div><div><dt>Stores that have everything</dt><dd>")
            .text(&format!("{whole} of {}", stores.len()));
        html.raw("</dd></div><div><dt>Stores last looked at</dt><dd>");
        match &project.found {
            Some(found) => html.ago(found.at, now),
            None => html.raw("never"),
        };
        html.raw("</dd></div><div><dt>Recovery kit proved</dt><dd>");
        match project.report.kit.as_ref().map(|kit| (kit.proved, kit.stale)) {
            Some((Some(proved), false)) => html.ago(proved, now),
            Some((Some(proved), true)) => {
                html.ago(proved, now).raw("<span class=\"more\">stale: keys or stores changed since</span>")
            }
            Some((None, _)) => html.raw("never<span class=\"more\">not on this machine</span>"),
            None => html.raw("not known"),
        };
        html.raw("</dd></div></dl>");
    }

    fn concerns(&self, html: &mut Html) {
        let concerns = &self.project.report.concerns;
        let unseen = &self.project.report.unseen;
        if concerns.is_empty() && unseen.is_empty() {
            return;
        }
        self.section(html, "todo", "What needs a look");
        html.raw("<ul class=\"todo\">");
        for concern in concerns {
            let verdict = if concern.state == State::Critical { Verdict::Danger } else { Verdict::Look };
            let word = if concern.state == State::Critical { "Act: " } else { "Look: " };
            html.raw("<li class=\"").raw(verdict.tone().class()).raw("\">").tone(verdict.tone(), word);
            html.text(" ").text(&concern.what);
            if let Some(way) = &concern.way_out {
                html.raw("<span class=\"way\">").text(way).raw("</span>");
            }
            html.raw("</li>");
        }
        for what in unseen {
            html.raw("<li>").tone(Verdict::Unknown.tone(), "Not seen: ").text(" ").text(what).raw("</li>");
        }
        html.raw("</ul></section>");
    }
}

/// The first of several things that are not well.
fn told(number: usize, first: &str) -> String {
    let mut letters = first.chars();
    let first: String = letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect();
    match number {
        0 | 1 => format!("{first}."),
        more => format!("{first}, and {} more.", more - 1),
    }
}
