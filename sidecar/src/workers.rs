//! The threads that serve connections, each with listeners and an event loop of its own. A connection stays on the thread
//! that accepted it: nothing is handed over, and no lock is shared on the way of its bytes.

use std::io;
use std::num::NonZero;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// Threads cost memory, and a sidecar is to leave the processors to its application (Istio's takes two).
const MOST: usize = 4;

/// Threads that run until this is dropped.
pub struct Workers {
    threads: Vec<Worker>,
}

struct Worker {
    runtime: tokio::runtime::Handle,
    stop: Arc<Notify>,
    thread: Option<JoinHandle<()>>,
}

impl Workers {
    /// One for each processor, but no more than a few.
    pub fn start() -> io::Result<Self> {
        let processors = thread::available_parallelism().map_or(1, NonZero::get);
        let threads = (0..processors.min(MOST)).map(Worker::start).collect::<io::Result<_>>()?;
        Ok(Self { threads })
    }

    /// Starts a task on each thread, made within its runtime from the thread's number, or none. They end with what is
    /// returned.
    pub fn each<F, E>(&self, mut make: impl FnMut(usize) -> Result<Option<F>, E>) -> Result<JoinSet<()>, E>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut tasks = JoinSet::new();
        for (number, worker) in self.threads.iter().enumerate() {
            let task = {
                let _within = worker.runtime.enter();
                make(number)?
            };
            if let Some(task) = task {
                tasks.spawn_on(task, &worker.runtime);
            }
        }
        Ok(tasks)
    }
}

impl Worker {
    fn start(number: usize) -> io::Result<Self> {
        let runtime: Runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
        let handle = runtime.handle().clone();
        let stop = Arc::new(Notify::new());
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name(format!("worker-{number}"))
            .spawn(move || runtime.block_on(stopped.notified()))?;
        Ok(Self { runtime: handle, stop, thread: Some(thread) })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop.notify_one();
        if let Some(thread) = self.thread.take() {
            // It panicked, and has said so.
            let _ = thread.join();
        }
    }
}
