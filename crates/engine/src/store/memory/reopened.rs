//! What is left of a store in memory after a crash: for simulations, in which it stands for a file.

use std::mem;

use super::{Memory, State};
use crate::sync::lock;

impl Memory {
    /// The store as a process that starts after a crash of this one would find it: all that was committed, and nothing of which
    /// calls were in flight. This one is closed.
    #[must_use]
    pub fn reopened(&self) -> Self {
        let closed = State { closed: true, ..State::default() };
        let mut state = mem::replace(&mut *lock(&self.state), closed);
        for account in state.accounts.values_mut() {
            *account = mem::take(account).only_stored();
        }
        Self { state: state.into() }
    }
}
