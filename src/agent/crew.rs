//! Threads that take tasks: a few stay for a moment after their last, since a start is a chain of short ones.
//!
//! A task never waits for another's thread: where nobody is free there is one thread more, so a task that hangs holds
//! up itself alone. INVARIANT: under the lock, as many threads wait as tasks do, or more.

use crate::sys::process;
use std::collections::VecDeque;
use std::ffi::CString;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Enough for the deepest recursion that serde_json allows (128) over the v1 types; only touched pages count.
const STACK_BYTES: usize = 512 * 1024;
/// How long a thread waits for one more task: the steps of a start follow each other within milliseconds.
const LINGER: Duration = Duration::from_millis(100);

/// A name, as `ps -L` shows it, and what to do.
pub struct Task {
    pub name: &'static str,
    pub work: Box<dyn FnOnce() + Send>,
}

#[derive(Default)]
struct Waiting {
    tasks: VecDeque<Task>,
    threads: usize,
}

#[derive(Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    more: Condvar,
}

#[derive(Default)]
pub struct Crew {
    shared: Arc<Shared>,
}

impl Crew {
    /// Has `task` done at once. If no thread can be started for it, it comes back with the reason.
    pub fn take(&self, task: Task) -> Result<(), (Task, io::Error)> {
        let mut waiting = self.shared.lock();
        if waiting.threads > waiting.tasks.len() {
            waiting.tasks.push_back(task);
            self.shared.more.notify_one();
            return Ok(());
        }
        // The thread begins by waiting for the lock, and finds the task.
        let shared = Arc::clone(&self.shared);
        match std::thread::Builder::new().stack_size(STACK_BYTES).spawn(move || shared.work()) {
            Ok(_) => {
                waiting.tasks.push_back(task);
                waiting.threads += 1;
                Ok(())
            }
            Err(error) => Err((task, error)),
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A thread's life. It is counted as waiting from before it was started.
    fn work(&self) {
        let mut waiting = self.lock();
        loop {
            if let Some(task) = waiting.tasks.pop_front() {
                waiting.threads -= 1;
                drop(waiting);
                if let Ok(name) = CString::new(task.name) {
                    process::set_name(&name);
                }
                (task.work)();
                waiting = self.lock();
                waiting.threads += 1;
                continue;
            }
            let (guard, waited) = self.more.wait_timeout(waiting, LINGER).unwrap_or_else(PoisonError::into_inner);
            waiting = guard;
            if waited.timed_out() && waiting.tasks.is_empty() {
                waiting.threads -= 1;
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Sender, channel, sync_channel};

    fn task(work: impl FnOnce() + Send + 'static) -> Task {
        Task { name: "test", work: Box::new(work) }
    }

    fn threads(crew: &Crew) -> usize {
        crew.shared.lock().threads
    }

    fn tell(sender: &Sender<std::thread::ThreadId>) -> Task {
        let sender = sender.clone();
        task(move || sender.send(std::thread::current().id()).expect("the test listens"))
    }

    #[test]
    fn a_task_that_hangs_holds_up_no_other() {
        let crew = Crew::default();
        let (release, gate) = sync_channel::<()>(0);
        crew.take(task(move || gate.recv().unwrap_or_default())).map_err(|(_, e)| e).expect("a thread");
        let (sender, told) = channel();
        for _ in 0..100 {
            crew.take(tell(&sender)).map_err(|(_, e)| e).expect("a thread");
        }
        assert_eq!(told.iter().take(100).count(), 100);
        drop(release);
    }

    #[test]
    fn a_thread_takes_the_next_task_and_goes_when_there_is_none() {
        let crew = Crew::default();
        let (sender, told) = channel();
        let mut ids = Vec::new();
        for _ in 0..3 {
            crew.take(tell(&sender)).map_err(|(_, e)| e).expect("a thread");
            ids.push(told.recv().expect("done"));
            while threads(&crew) == 0 {
                std::thread::yield_now();
            }
        }
        ids.dedup();
        // A machine that stands still for 100 ms between two of them has one more.
        assert!(ids.len() < 3, "{ids:?}");
        let begin = std::time::Instant::now();
        while threads(&crew) > 0 {
            assert!(begin.elapsed() < Duration::from_secs(30), "it stays");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
