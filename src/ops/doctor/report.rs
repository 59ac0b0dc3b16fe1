//! What an examination gives.

use crate::model::Timestamp;
use serde::Serialize;

/// How bad something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As it should be.
    Well,
    /// Worth knowing; nothing has to be done.
    Note,
    /// It will cost something one day.
    Warning,
    /// Backups, or getting them back, fail now or are in danger: somebody must act.
    Problem,
}

/// What was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Area {
    /// `backstay.toml` and what it names.
    Configuration,
    /// Keys and who can read them.
    Keys,
    /// The recovery kit.
    Kit,
    /// What this machine remembers, and what is under way.
    State,
    /// This machine's clock.
    Clock,
    /// A store.
    Store,
    /// The signed history.
    History,
    /// Databases and dumps.
    Databases,
    /// Room.
    Space,
    /// When backups run.
    Schedule,
    /// Who is told.
    Notify,
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub area: Area,
    /// Of what: a store, a component, a file.
    pub subject: String,
    /// How bad it is.
    pub severity: Severity,
    /// What was found.
    pub what: String,
    /// What to do about it; none where nothing has to be done.
    pub way_out: Option<String>,
}

/// Everything that was found, area by area.
#[derive(Debug, Clone, Serialize)]
pub struct DoctorReport {
    /// When it was looked at.
    pub time: Timestamp,
    /// The worst severity.
    pub worst: Severity,
    /// How many findings of severity `problem`.
    pub problems: u64,
    /// How many warnings.
    pub warnings: u64,
    /// What was found.
    pub findings: Vec<Finding>,
}

impl DoctorReport {
    /// Adds what is as it should be.
    pub fn well(&mut self, area: Area, subject: &str, what: &str) {
        self.add(area, subject, Severity::Well, what, None);
    }

    /// Adds what somebody must do something about.
    pub fn problem(&mut self, area: Area, subject: &str, what: &str, way_out: &str) {
        self.add(area, subject, Severity::Problem, what, Some(way_out.to_owned()));
        self.problems += 1;
    }

    fn add(&mut self, area: Area, subject: &str, severity: Severity, what: &str, way_out: Option<String>) {
        self.worst = self.worst.max(severity);
        let (subject, what) = (subject.to_owned(), what.to_owned());
        self.findings.push(Finding { area, subject, severity, what, way_out });
    }
}

/// Findings being gathered.
#[derive(Debug, Default)]
pub(super) struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, area: Area, subject: &str, severity: Severity, what: String, way_out: Option<String>) {
        self.0.push(Finding { area, subject: subject.to_owned(), severity, what, way_out });
    }

    /// As it should be.
    pub(super) fn well(&mut self, area: Area, subject: &str, what: impl Into<String>) {
        self.add(area, subject, Severity::Well, what.into(), None);
    }

    /// Worth knowing.
    pub(super) fn note(&mut self, area: Area, subject: &str, what: impl Into<String>) {
        self.add(area, subject, Severity::Note, what.into(), None);
    }

    /// It will cost something one day.
    pub(super) fn warning(
        &mut self,
        area: Area,
        subject: &str,
        what: impl Into<String>,
        way_out: impl Into<String>,
    ) {
        self.add(area, subject, Severity::Warning, what.into(), Some(way_out.into()));
    }

    /// Somebody must act.
    pub(super) fn problem(
        &mut self,
        area: Area,
        subject: &str,
        what: impl Into<String>,
        way_out: impl Into<String>,
    ) {
        self.add(area, subject, Severity::Problem, what.into(), Some(way_out.into()));
    }

    /// True when something in `area` has to be done.
    pub(super) fn has_trouble(&self, area: Area) -> bool {
        self.0.iter().any(|f| f.area == area && f.severity >= Severity::Warning)
    }

    /// The report, in the order of areas.
    pub(super) fn finish(self, time: Timestamp) -> DoctorReport {
        let mut findings = self.0;
        findings.sort_by_key(|f| f.area);
        let count = |severity| findings.iter().filter(|f| f.severity == severity).count() as u64;
        DoctorReport {
            time,
            worst: findings.iter().map(|f| f.severity).max().unwrap_or(Severity::Well),
            problems: count(Severity::Problem),
            warnings: count(Severity::Warning),
            findings,
        }
    }
}
