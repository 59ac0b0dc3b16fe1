//! Splitting a walk in two: the part that comes later in walk order is given away. What decides about an entry (rules, file system, databases beside it) goes
//! with it, so that it is listed the same wherever the cut was.

use crate::model::RelPath;
use crate::source::folder::databases::owner_of_sidecar;
use crate::source::folder::rules::Rules;
use crate::source::folder::walk::{Frame, Walker};
use std::ffi::CString;

/// Fewer names of one directory are listed sooner than another thread wakes up.
const WORTH_IT: usize = 32;

/// What is to be walked: the innermost directory with names, the ones around it, and the rules that hold there.
pub(super) struct Part {
    pub(super) stack: Vec<Frame>,
    pub(super) rules: Rules,
}

impl Walker<'_, '_> {
    /// Gives a part of what is left to somebody who has nothing to do.
    pub(super) fn share(&mut self) {
        if !self.around.crew.wants() {
            return;
        }
        if self.patience > 0 {
            self.patience -= 1;
            return;
        }
        match self.split() {
            Some(part) => self.around.crew.give(self.turn.part, part),
            // As many steps as names may have been looked at in vain, or one large directory would be looked through at each of its names.
            None if !self.around.crew.takes_little() => {
                self.patience = self.stack.iter().map(Frame::left).find(|left| *left > 0).unwrap_or(0);
            }
            None => {}
        }
    }

    /// The later half of what is left in the outermost directory that has anything left: everything further in comes before it, so what stays is in one piece.
    fn split(&mut self) -> Option<Part> {
        let at = self.stack.iter().position(|frame| frame.left() > 0)?;
        let innermost = at + 1 == self.stack.len();
        if innermost && self.stack[at].left() < WORTH_IT && !self.around.crew.takes_little() {
            return None;
        }
        let depth = self.stack.get(at + 1).map_or(self.rules.depth(), |inner| inner.rules);
        let cut = self.stack[at].cut();
        if innermost && cut == 0 {
            return None; // nothing would be left here
        }
        let mut stack: Vec<Frame> = self.stack[..at].iter().map(Frame::around).collect();
        stack.push(self.stack[at].split_off(cut));
        Some(Part { stack, rules: self.rules.outer(depth) })
    }
}

impl Frame {
    /// How many names were not looked at yet.
    fn left(&self) -> usize {
        self.names.as_slice().len()
    }

    /// This directory as one of those that a part lies in, with nothing left.
    fn around(&self) -> Self {
        Self {
            // Never opened again, because nothing of it is looked at.
            path: RelPath::root(),
            dir: None,
            inode: self.inode,
            home: self.home,
            selection: self.selection.as_ref().map(|_| Default::default()),
            names: Vec::new().into_iter(),
            rules: self.rules,
            databases: Vec::new(),
            opaque: Vec::new(),
        }
    }

    /// This directory with the names from `cut` on, which it has no more.
    fn split_off(&mut self, cut: usize) -> Self {
        let mut names: Vec<CString> = std::mem::take(&mut self.names).collect();
        let later = names.split_off(cut);
        let first = later.first().map(|name| name.to_bytes().to_vec());
        self.names = names.into_iter();
        let selection = self.selection.as_mut().map(|all| first.map(|first| all.split_off(&first)));
        Self {
            path: self.path.clone(),
            dir: self.dir.clone(),
            names: later.into_iter(),
            selection: selection.map(Option::unwrap_or_default),
            // What lies beside them may come later.
            databases: self.databases.clone(),
            opaque: self.opaque.clone(),
            ..self.around()
        }
    }

    /// Where the names that are left are cut, as near to the middle as may be: never between a database that was not looked at yet and what lies beside it. At 0 they
    /// always can be.
    fn cut(&self) -> usize {
        let names = self.names.as_slice();
        // How many pairs a cut here begins to tear apart, less those that it does not any more.
        let mut torn = vec![0_isize; names.len() + 1];
        for (at, name) in names.iter().enumerate() {
            let owner = owner_of_sidecar(name.to_bytes());
            let place = owner.map(|owner| names.binary_search_by(|name| name.to_bytes().cmp(owner)));
            if let Some(Ok(owner)) = place {
                torn[owner + 1] += 1;
                torn[at + 1] -= 1;
            }
        }
        let mut open = 0;
        let may: Vec<bool> = torn
            .iter()
            .map(|change| {
                open += change;
                open == 0
            })
            .collect();
        let middle = names.len() / 2;
        (middle..names.len()).chain((0..middle).rev()).find(|at| may[*at]).unwrap_or(0)
    }
}
