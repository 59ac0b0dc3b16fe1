//! Who may make the next call: threads wait here for their turn, and the test gives it.

use super::cast::Role;
use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

#[derive(Debug, Default, Clone, Copy)]
struct Place {
    waiting: usize,
    granted: usize,
    over: bool,
}

/// Where everybody stands.
#[derive(Debug, Default)]
pub(super) struct Stage {
    places: Mutex<BTreeMap<Role, Place>>,
    changed: Condvar,
}

impl Stage {
    fn places(&self) -> MutexGuard<'_, BTreeMap<Role, Place>> {
        self.places.lock().unwrap()
    }

    pub(super) fn begin(&self, role: Role) {
        self.places().insert(role, Place::default());
    }

    /// Called before each call of a store, by whichever thread of `role` makes it.
    pub(super) fn wait_for_turn(&self, role: Role) {
        let mut places = self.places();
        places.get_mut(&role).unwrap().waiting += 1;
        self.changed.notify_all();
        while places[&role].granted == 0 {
            places = self.changed.wait(places).unwrap();
        }
        let place = places.get_mut(&role).unwrap();
        (place.granted, place.waiting) = (place.granted - 1, place.waiting - 1);
        self.changed.notify_all();
    }

    pub(super) fn end(&self, role: Role) {
        self.places().get_mut(&role).unwrap().over = true;
        self.changed.notify_all();
    }

    /// Lets one call of `role` be made, and waits until it stands before the next; true when it has ended.
    pub(super) fn grant(&self, role: Role) -> bool {
        let mut places = self.until_it_stands(role);
        if places[&role].over {
            return true;
        }
        places.get_mut(&role).unwrap().granted = 1;
        self.changed.notify_all();
        while places[&role].granted > 0 {
            places = self.changed.wait(places).unwrap();
        }
        drop(places);
        self.until_it_stands(role)[&role].over
    }

    fn until_it_stands(&self, role: Role) -> MutexGuard<'_, BTreeMap<Role, Place>> {
        let mut places = self.places();
        while places[&role].waiting == 0 && !places[&role].over {
            let (next, late) = self.changed.wait_timeout(places, Duration::from_secs(120)).unwrap();
            assert!(!late.timed_out(), "{role:?} neither calls nor ends");
            places = next;
        }
        places
    }
}
