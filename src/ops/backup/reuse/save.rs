//! Writing down what a snapshot holds, under the hash of its record, before that is put: whether it was, the store will say, and what was known before stays
//! beside it until then.

use crate::catalog::known::{ComponentUpdate, Expected, Update, remove, save};
use crate::durable::crash;
use crate::model::{ObjectId, Record};
use crate::ops::backup::chain_text;
use crate::ops::backup::reuse::Reuse;
use crate::ops::session::Session;

/// What a component's listing changes in the catalog; archives of this run have no age yet.
pub(in crate::ops::backup) type Saved = ComponentUpdate;

impl Reuse {
    /// Remembers what `record`, which will have the hash `hash`, holds. A catalog that cannot be written is removed, and said: it costs the next run time,
    /// nothing else.
    pub(in crate::ops::backup) fn save(
        self,
        session: &Session,
        record: &Record,
        hash: ObjectId,
        mut components: Vec<Saved>,
    ) {
        for archive in components.iter_mut().flat_map(|c| &mut c.archives) {
            archive.age = archive.age.min(record.number);
        }
        let now = Expected { vault: &record.vault, host: &record.host, record: &hash };
        let update = Update { now, before: self.known.record, components, alive: Some(self.alive.clone()) };
        crash::point("backup: catalog to be written");
        let saved = match self.write_tables() {
            Some(why) => Err(why),
            None => save(&self.path, &update).map_err(|error| chain_text(&error)),
        };
        if let Err(why) = saved {
            drop(remove(&self.path));
            session.note(&format!(
                "the next backup will read everything, because this one cannot be remembered: {why}"
            ));
        }
        crash::point("backup: catalog written");
    }
}
