//! The way out of the child: frames go through a short queue to a thread that writes them, so that reading a database and sending it overlap. What was sent
//! comes back as a buffer: new memory for each frame costs more than filling it.

use crate::source::sqlite::error::{Cause, Failure};
use crate::source::sqlite::wire::{CHUNK, Frame, Tag};
use crossbeam_channel::{Receiver, SendTimeoutError, Sender};
use serde::Serialize;
use std::time::Duration;

/// So many frames wait at most.
pub(super) const QUEUE: usize = 8;

/// Where the child's frames go.
#[derive(Debug)]
pub(super) struct Outlet {
    queue: Sender<Frame>,
    /// Buffers of frames that were written.
    spare: Receiver<Vec<u8>>,
}

fn gone() -> Failure {
    Failure::new(Cause::Unreadable, "the reader of the capture is gone")
}

impl Outlet {
    pub(super) fn new(queue: Sender<Frame>, spare: Receiver<Vec<u8>>) -> Self {
        Self { queue, spare }
    }

    /// An empty buffer for the next frame.
    pub(super) fn buffer(&self) -> Vec<u8> {
        self.spare.try_recv().unwrap_or_else(|_| Vec::with_capacity(CHUNK))
    }

    /// Sends bytes of the database, waiting as long as it takes.
    pub(super) fn data(&self, bytes: Vec<u8>) -> Result<(), Failure> {
        self.queue.send(Frame { tag: Tag::Data, bytes }).map_err(|_| gone())
    }

    /// The same, but gives the bytes back when the reader does not take them within `patience`.
    pub(super) fn data_within(&self, bytes: Vec<u8>, patience: Duration) -> Result<Option<Vec<u8>>, Failure> {
        match self.queue.send_timeout(Frame { tag: Tag::Data, bytes }, patience) {
            Ok(()) => Ok(None),
            Err(SendTimeoutError::Timeout(frame)) => Ok(Some(frame.bytes)),
            Err(SendTimeoutError::Disconnected(_)) => Err(gone()),
        }
    }

    /// Sends a header, trailer or failure.
    pub(super) fn say(&self, tag: Tag, value: &impl Serialize) -> Result<(), Failure> {
        let frame = Frame::json(tag, value).map_err(|e| Failure::new(Cause::Unreadable, &e))?;
        self.queue.send(frame).map_err(|_| gone())
    }
}
