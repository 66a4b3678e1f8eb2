//! Locking without panics.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// The lock, also after a panic elsewhere: use it only for what is valid between any two statements.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
