//! Work that may hang on a file system, on threads of its own: job in, outcome out.
//!
//! A lane runs one job at a time, in order. Each pod has a lane, the manifest reader and the image store have theirs,
//! so a job in D state keeps its own lane waiting and delays nobody else. Threads end when nothing happens. Jobs own
//! what they work on and share no state with the loop. A job that found nothing new, and that no other job waits for,
//! wakes nobody: its outcome waits until the loop wakes for another reason.

use super::crew::{Crew, Task};
use crate::model::id::PodUid;
use crate::model::time::Mono;
use crate::sys::poll::Waker;
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A node without room for one more thread may have it soon.
const RETRY: Duration = Duration::from_secs(1);

/// Who waits for whom.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// Looking at the manifest directory.
    Manifests,
    /// Decoding one manifest.
    Decoding(PathBuf),
    /// Preloading and imports.
    Images,
    /// What concerns the node: its address.
    Node,
    /// The node's own files that pods are given from.
    NodeFiles,
    /// The pod network as a whole.
    Network,
    /// Requests to the API server.
    Api,
    /// What it is watched for.
    ApiWatch,
    /// What the Node object shows of the machine.
    NodeReadings,
    /// Clients' questions that need the disk.
    Queries,
    /// Durable records of a pod: written behind everything else, so that no start ever waits for a sync.
    Durable(PodUid),
    /// Looking up a pod's images, while the pod is being prepared.
    PodImages(PodUid),
    Pod(PodUid),
}

/// What a job comes to.
pub trait Finding {
    /// Whether the loop has to hear of it at once.
    fn is_news(&self) -> bool;
}

struct Job {
    task: Task,
    end: Arc<Mutex<End>>,
}

#[derive(Default)]
struct Queue {
    running: Option<Running>,
    waiting: VecDeque<Job>,
}

struct Running {
    name: &'static str,
    since: Mono,
    end: Arc<Mutex<End>>,
}

/// What the loop and a running job tell each other about the job's end.
#[derive(Default)]
struct End {
    /// Its outcome is on its way.
    told: bool,
    /// Another job waits for its lane: its end is news whatever it found.
    awaited: bool,
}

fn locked(end: &Mutex<End>) -> MutexGuard<'_, End> {
    end.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A job that is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Underway {
    pub name: &'static str,
    pub since: Mono,
}

pub struct Workers<T> {
    lanes: BTreeMap<Lane, Queue>,
    crew: Crew,
    sender: Sender<(Lane, T)>,
    receiver: Receiver<(Lane, T)>,
    waker: Waker,
    retry_at: Option<Mono>,
}

impl<T: Finding + Send + 'static> Workers<T> {
    /// `waker` is woken whenever an outcome is ready.
    pub fn new(waker: Waker) -> Workers<T> {
        let (sender, receiver) = channel();
        Workers { lanes: BTreeMap::new(), crew: Crew::default(), sender, receiver, waker, retry_at: None }
    }

    /// Runs `work` as soon as the lane is free.
    pub fn submit(&mut self, lane: Lane, name: &'static str, now: Mono, work: impl FnOnce() -> T + Send + 'static) {
        let end = Arc::<Mutex<End>>::default();
        let (sender, waker, key, ending) = (self.sender.clone(), self.waker.clone(), lane.clone(), Arc::clone(&end));
        let work = move || {
            let outcome = work();
            let news = outcome.is_news();
            let mut end = locked(&ending);
            // The receiver outlives every worker but at the agent's own exit.
            let _ = sender.send((key, outcome));
            end.told = true;
            if news || end.awaited {
                waker.wake();
            }
        };
        let queue = self.lanes.entry(lane.clone()).or_default();
        queue.waiting.push_back(Job { task: Task { name, work: Box::new(work) }, end });
        if let Some(running) = &queue.running {
            let mut end = locked(&running.end);
            end.awaited = true;
            if end.told {
                self.waker.wake();
            }
        }
        self.advance(&lane, now);
    }

    /// What has been done since the last call; starts whatever waited behind it.
    pub fn finished(&mut self, now: Mono) -> Vec<T> {
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
            for lane in self.lanes.keys().cloned().collect::<Vec<_>>() {
                self.advance(&lane, now);
            }
        }
        let done: Vec<(Lane, T)> = self.receiver.try_iter().collect();
        let mut outcomes = Vec::with_capacity(done.len());
        for (lane, outcome) in done {
            if let Some(queue) = self.lanes.get_mut(&lane) {
                queue.running = None;
            }
            self.advance(&lane, now);
            outcomes.push(outcome);
        }
        outcomes
    }

    /// When to try again to start threads that could not be started.
    pub fn retry_at(&self) -> Option<Mono> {
        self.retry_at
    }

    /// What the lane is busy with, for `explain`.
    pub fn underway(&self, lane: &Lane) -> Option<Underway> {
        let running = self.lanes.get(lane)?.running.as_ref()?;
        Some(Underway { name: running.name, since: running.since })
    }

    /// True if nothing runs or waits in the lane.
    pub fn idle(&self, lane: &Lane) -> bool {
        !self.lanes.contains_key(lane)
    }

    /// True if a job waits that has not begun: what is asked for now, it will see.
    pub fn has_waiting(&self, lane: &Lane) -> bool {
        self.lanes.get(lane).is_some_and(|queue| !queue.waiting.is_empty())
    }

    fn advance(&mut self, lane: &Lane, now: Mono) {
        let Some(queue) = self.lanes.get_mut(lane) else { return };
        if queue.running.is_some() {
            return;
        }
        let Some(Job { task, end }) = queue.waiting.pop_front() else {
            self.lanes.remove(lane);
            return;
        };
        let name = task.name;
        locked(&end).awaited = !queue.waiting.is_empty();
        queue.running = Some(Running { name, since: now, end: Arc::clone(&end) });
        if let Err((task, error)) = self.crew.take(task) {
            if self.retry_at.is_none() {
                log::error!("cannot start a worker thread for {name}: {error}; trying again");
            }
            self.retry_at = Some(now + RETRY);
            queue.running = None;
            queue.waiting.push_front(Job { task, end });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::sync_channel;

    impl Finding for u32 {
        fn is_news(&self) -> bool {
            *self != 0
        }
    }

    fn collect(workers: &mut Workers<u32>, wanted: usize) -> Vec<u32> {
        let mut all = Vec::new();
        for _ in 0..2000 {
            all.extend(workers.finished(Mono(1)));
            if all.len() >= wanted {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        all
    }

    #[test]
    fn a_lane_keeps_its_order_and_a_stuck_lane_delays_no_other() {
        let waker = Waker::new().expect("eventfd");
        let mut workers = Workers::new(waker);
        let (release, gate) = sync_channel::<()>(0);
        workers.submit(Lane::Images, "stuck", Mono(0), move || {
            let _ = gate.recv();
            1
        });
        for n in 2..5 {
            workers.submit(Lane::Manifests, "quick", Mono(0), move || n);
        }
        assert_eq!(collect(&mut workers, 3), vec![2, 3, 4]);
        assert_eq!(workers.underway(&Lane::Images).map(|u| u.name), Some("stuck"));
        drop(release);
        assert_eq!(collect(&mut workers, 1), vec![1]);
        assert!(workers.idle(&Lane::Images));
    }

    #[test]
    fn a_job_without_news_wakes_nobody_and_is_taken_up_with_the_next_wake_up() {
        let waker = Waker::new().expect("eventfd");
        let poller = crate::sys::poll::Poller::new().expect("epoll");
        poller.add(&waker, 1).expect("added");
        let mut workers = Workers::new(waker);
        let (done, finished) = sync_channel::<()>(1);
        workers.submit(Lane::Manifests, "quiet", Mono(0), move || {
            let _ = done.send(());
            0
        });
        finished.recv().expect("it ran");
        assert_eq!(poller.wait(Some(Duration::from_millis(50))).expect("waited"), Vec::<u64>::new());
        assert_eq!(collect(&mut workers, 1), vec![0]);
    }
    #[test]
    fn a_job_that_waits_behind_one_without_news_begins_when_that_ends() {
        for waits_before_the_end in [true, false] {
            let waker = Waker::new().expect("eventfd");
            let poller = crate::sys::poll::Poller::new().expect("epoll");
            poller.add(&waker, 1).expect("added");
            let mut workers = Workers::new(waker.clone());
            let (release, gate) = sync_channel::<()>(0);
            workers.submit(Lane::Node, "quiet", Mono(0), move || {
                let _ = gate.recv();
                0
            });
            if waits_before_the_end {
                workers.submit(Lane::Node, "behind", Mono(0), || 7);
                drop(release);
            } else {
                drop(release);
                // Long enough for the first to have told its end, mostly; right in either order.
                std::thread::sleep(Duration::from_millis(50));
                workers.submit(Lane::Node, "behind", Mono(0), || 7);
            }
            assert!(workers.has_waiting(&Lane::Node));
            let mut all = Vec::new();
            while all.len() < 2 {
                let woken = poller.wait(Some(Duration::from_secs(30))).expect("waited");
                assert!(!woken.is_empty(), "nobody woke the loop; so far: {all:?}");
                waker.clear();
                all.extend(workers.finished(Mono(1)));
            }
            assert_eq!(all, vec![0, 7]);
        }
    }
}
