//! The queue of the writer. What nobody waits for is put off for a moment: then more of it shares a transaction, it wakes no
//! thread, and it does not lengthen a transaction for which somebody waits.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::StoreError;
use crate::sync::lock;

/// Patient jobs are done once nothing urgent has come for this long.
const PATIENCE: Duration = Duration::from_millis(10);
/// They are put off for so many portions of urgent ones at most.
const MAX_PUT_OFF: usize = 8;

/// Who waits for a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Urgency {
    /// A request.
    Urgent,
    /// Nobody: it may wait for jobs to share its transaction with.
    Patient,
}

/// Jobs of either urgency, each in the order in which they came.
pub(super) struct Queue<J> {
    state: Mutex<State<J>>,
    changed: Condvar,
}

struct State<J> {
    urgent: VecDeque<J>,
    patient: VecDeque<J>,
    /// The portions of urgent jobs that were taken while patient ones waited.
    put_off: usize,
    is_closed: bool,
    phase: Phase,
}

/// What the thread that takes jobs is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Working,
    /// It waits for any job.
    Idle,
    /// It waits for urgent ones, and for the time of the patient ones.
    Patient,
}

impl<J> Default for Queue<J> {
    fn default() -> Self {
        let (urgent, patient) = (VecDeque::new(), VecDeque::new());
        let state = State { urgent, patient, put_off: 0, is_closed: false, phase: Phase::Working };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }
}

impl<J> Queue<J> {
    /// Adds a job behind the others of its urgency.
    ///
    /// # Errors
    /// If the queue is closed.
    pub(super) fn push(&self, job: J, urgency: Urgency) -> Result<(), StoreError> {
        let mut state = lock(&self.state);
        if state.is_closed {
            return Err(StoreError::unavailable("the store is closed"));
        }
        match urgency {
            Urgency::Urgent => state.urgent.push_back(job),
            Urgency::Patient => state.patient.push_back(job),
        }
        let wakes = match state.phase {
            Phase::Working => false,
            Phase::Idle => true,
            Phase::Patient => urgency == Urgency::Urgent,
        };
        if wakes {
            // One signal is enough.
            state.phase = Phase::Working;
            drop(state);
            self.changed.notify_one();
        }
        Ok(())
    }

    /// Waits for jobs, and takes at most `most` of them, all of one urgency. `None` once the queue is closed and empty. For one
    /// thread.
    pub(super) fn take(&self, most: usize) -> Option<Vec<J>> {
        let mut state = lock(&self.state);
        let mut is_due = false;
        loop {
            match (state.urgent.is_empty(), state.patient.is_empty()) {
                (_, false) if is_due || state.is_closed || state.put_off >= MAX_PUT_OFF => {
                    state.put_off = 0;
                    return Some(state.portion(most, Urgency::Patient));
                }
                (false, has_none) => {
                    state.put_off += usize::from(!has_none);
                    return Some(state.portion(most, Urgency::Urgent));
                }
                (true, false) => {
                    state.phase = Phase::Patient;
                    let waited = self.changed.wait_timeout(state, PATIENCE).unwrap_or_else(PoisonError::into_inner);
                    is_due = waited.1.timed_out();
                    state = waited.0;
                }
                (true, true) if state.is_closed => return None,
                (true, true) => {
                    state.phase = Phase::Idle;
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    /// Accepts no further jobs.
    pub(super) fn close(&self) {
        lock(&self.state).is_closed = true;
        self.changed.notify_one();
    }

    /// Likewise, and drops those that are queued.
    pub(super) fn abandon(&self) {
        self.close();
        // Outside the lock, since what is dropped may tell somebody.
        let mut state = lock(&self.state);
        let abandoned = (std::mem::take(&mut state.urgent), std::mem::take(&mut state.patient));
        drop(state);
        drop(abandoned);
    }
}

impl<J> State<J> {
    fn portion(&mut self, most: usize, urgency: Urgency) -> Vec<J> {
        self.phase = Phase::Working;
        let jobs = match urgency {
            Urgency::Urgent => &mut self.urgent,
            Urgency::Patient => &mut self.patient,
        };
        let count = jobs.len().min(most);
        jobs.drain(..count).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;

    #[test]
    fn jobs_are_taken_in_order_and_in_portions_those_with_somebody_who_waits_first() {
        let queue = Queue::default();
        let jobs = [(1, Urgency::Patient), (2, Urgency::Urgent), (3, Urgency::Patient), (4, Urgency::Urgent)];
        for (number, urgency) in jobs {
            queue.push(number, urgency).unwrap();
        }
        assert_eq!(queue.take(1), Some(vec![2]));
        assert_eq!(queue.take(9), Some(vec![4]));
        assert_eq!(queue.take(9), Some(vec![1, 3]));
    }

    #[test]
    fn what_can_wait_has_its_turn_although_there_is_always_something_urgent() {
        let queue = Queue::default();
        queue.push(0, Urgency::Patient).unwrap();
        let urgent = std::iter::from_fn(|| {
            queue.push(1, Urgency::Urgent).unwrap();
            queue.take(1)
        });
        assert_eq!(urgent.take(20).filter(|taken| *taken == [0]).count(), 1);
    }

    #[test]
    fn a_closed_queue_is_emptied_and_then_ends() {
        let queue = Queue::default();
        queue.push(1, Urgency::Patient).unwrap();
        queue.close();
        assert!(queue.push(2, Urgency::Urgent).is_err());
        assert_eq!(queue.take(9), Some(vec![1]));
        assert_eq!(queue.take(9), None);
    }

    #[test]
    fn an_abandoned_queue_drops_its_jobs() {
        let (queue, job) = (Queue::default(), Arc::new(()));
        queue.push(job.clone(), Urgency::Urgent).unwrap();
        queue.abandon();
        assert_eq!(Arc::strong_count(&job), 1);
        assert_eq!(queue.take(9), None);
    }

    #[test]
    fn a_thread_that_waits_is_woken_by_a_job_and_by_the_end() {
        let queue = Arc::new(Queue::default());
        let phase = {
            let queue = queue.clone();
            thread::spawn(move || {
                let mut taken = Vec::new();
                while let Some(jobs) = queue.take(9) {
                    taken.extend(jobs);
                }
                taken
            })
        };
        for number in 0..1_000 {
            let urgency = if number % 3 == 0 { Urgency::Urgent } else { Urgency::Patient };
            queue.push(number, urgency).unwrap();
            if number % 100 == 0 {
                thread::yield_now();
            }
        }
        queue.close();
        let taken = phase.join().unwrap();
        for rest in 0..3 {
            let of_one_urgency: Vec<_> = taken.iter().copied().filter(|number| number % 3 == rest).collect();
            assert!(of_one_urgency.is_sorted() && of_one_urgency.len() == (1_002 - rest) / 3, "{of_one_urgency:?}");
        }
    }
}
