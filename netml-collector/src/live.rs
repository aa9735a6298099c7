//! What just changed, for those who watch. Ingest gives, the web side encodes; ingest never waits.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::ingest::books::Books;
use crate::ingest::commands::CommandState;
use crate::store::Appended;

/// Updates waiting to be encoded; one more is dropped from the live feed and counted.
pub const UPDATES_MAX: usize = 64;

/// Something changed.
#[derive(Clone, Debug)]
pub enum Update {
    /// Records were stored.
    Stored(Arc<Appended>),
    /// A sensor came, went or said something new of itself.
    Sensors,
    /// A command has a new result.
    Command(Box<CommandState>),
}

/// Where updates are given.
#[derive(Clone, Debug)]
pub struct Live {
    updates: mpsc::Sender<Update>,
    books: Arc<Books>,
}

impl Live {
    /// A feed and its reading end.
    #[must_use]
    pub fn new(books: Arc<Books>) -> (Self, mpsc::Receiver<Update>) {
        let (updates, receiver) = mpsc::channel(UPDATES_MAX);
        (Self { updates, books }, receiver)
    }

    /// Gives an update; where the reader is behind it is dropped and counted.
    pub fn give(&self, update: Update) {
        if self.updates.try_send(update).is_err() {
            Books::add(&self.books.live_dropped, 1);
        }
    }
}
