//! Values that were read, each with its stretch of the text.

use crate::config::settings::CommandLine;
use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

/// A value and its stretch of the text.
#[derive(Debug, Clone)]
pub(super) struct At<T> {
    pub value: T,
    pub span: Range<usize>,
}

/// A value of the right type.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Text(String),
    Texts(Vec<At<String>>),
    Flag(bool),
    Number(u64),
    Time(Duration),
    Command(CommandLine),
    Block(Block),
    Blocks(Vec<Block>),
}

/// A table: the values that were right, and the names of all that stood there.
#[derive(Debug, Clone, Default)]
pub(super) struct Block {
    pub span: Range<usize>,
    pub fields: BTreeMap<&'static str, At<Value>>,
    /// Also those whose value was wrong: nobody is told that a key is missing which is there.
    pub named: BTreeMap<&'static str, Range<usize>>,
    /// A key of a later version stands there.
    pub later: bool,
}

impl Block {
    pub(super) fn has(&self, key: &str) -> bool {
        self.named.contains_key(key)
    }

    fn take<T>(&mut self, key: &str, pick: impl FnOnce(Value) -> Option<T>) -> Option<At<T>> {
        let At { value, span } = self.fields.remove(key)?;
        pick(value).map(|value| At { value, span })
    }

    pub(super) fn text(&mut self, key: &str) -> Option<At<String>> {
        self.take(key, |v| if let Value::Text(v) = v { Some(v) } else { None })
    }

    pub(super) fn texts(&mut self, key: &str) -> Vec<At<String>> {
        self.take(key, |v| if let Value::Texts(v) = v { Some(v) } else { None })
            .map_or_else(Vec::new, |at| at.value)
    }

    pub(super) fn flag(&mut self, key: &str) -> bool {
        self.flag_if_any(key).unwrap_or(false)
    }

    pub(super) fn flag_if_any(&mut self, key: &str) -> Option<bool> {
        self.take(key, |v| if let Value::Flag(v) = v { Some(v) } else { None }).map(|at| at.value)
    }

    pub(super) fn number(&mut self, key: &str) -> Option<u64> {
        self.take(key, |v| if let Value::Number(v) = v { Some(v) } else { None }).map(|at| at.value)
    }

    pub(super) fn time(&mut self, key: &str) -> Option<Duration> {
        self.take(key, |v| if let Value::Time(v) = v { Some(v) } else { None }).map(|at| at.value)
    }

    pub(super) fn command(&mut self, key: &str) -> Option<At<CommandLine>> {
        self.take(key, |v| if let Value::Command(v) = v { Some(v) } else { None })
    }

    pub(super) fn block(&mut self, key: &str) -> Option<Self> {
        self.take(key, |v| if let Value::Block(v) = v { Some(v) } else { None }).map(|at| at.value)
    }

    pub(super) fn blocks(&mut self, key: &str) -> Vec<Self> {
        self.take(key, |v| if let Value::Blocks(v) = v { Some(v) } else { None })
            .map_or_else(Vec::new, |at| at.value)
    }
}
