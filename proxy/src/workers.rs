//! The threads that serve connections: each has a runtime of its own, and what begins on one stays there.
//!
//! A call, its upstream connection and their timers never change threads, so that none wakes another for a call. What is
//! long-lived is spread by number: a new connection goes to the thread that has the fewest.

use crate::connection::{self, Stage};
use crate::proxy::Proxy;
use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;
use tokio::runtime::Builder;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

/// How often a thread with connections looks at the clock. A timer that is due before all others costs tokio a system call,
/// and each call sets some.
const TICK: Duration = Duration::from_millis(10);

/// All of them. Their threads end with this, and whatever they still serve.
pub(crate) struct Workers {
    workers: Vec<Worker>,
    /// Turns true when the drain is over.
    pub(crate) cut: watch::Sender<bool>,
}

struct Worker {
    connections: mpsc::UnboundedSender<Connection>,
    open: Arc<AtomicUsize>,
}

/// An accepted connection on its way to its thread, and while it lives: counted, so that a drain misses none.
struct Connection {
    stream: TcpStream,
    stage: watch::Receiver<Stage>,
    _open: Open,
}

impl Workers {
    /// Starts so many threads.
    ///
    /// # Errors
    /// Where the system gives none.
    pub(crate) fn start(proxy: &Arc<Proxy>, threads: usize) -> io::Result<Workers> {
        let (cut, is_cut) = watch::channel(false);
        let start = |_| {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let (connections, accepted) = mpsc::unbounded_channel();
            let open = Arc::<AtomicUsize>::default();
            let serve = serve(proxy.clone(), accepted, open.clone(), is_cut.clone());
            thread::Builder::new()
                .name("proxy".into())
                .spawn(move || runtime.block_on(serve))?;
            Ok(Worker { connections, open })
        };
        let workers = (0..threads.max(1)).map(start).collect::<io::Result<_>>()?;
        Ok(Workers { workers, cut })
    }

    /// How many connections are open.
    pub(crate) fn open(&self) -> usize {
        let open = |worker: &Worker| worker.open.load(Ordering::Acquire);
        self.workers.iter().map(open).sum()
    }

    /// Serves a connection until it ends, or the process does.
    pub(crate) fn take(&self, stream: TcpStream, stage: watch::Receiver<Stage>) {
        let fewest = self
            .workers
            .iter()
            .min_by_key(|worker| worker.open.load(Ordering::Relaxed));
        if let Some(worker) = fewest {
            let connection = Connection {
                stream,
                stage,
                _open: Open::count(&worker.open),
            };
            // A thread that is gone closes the connection with this.
            let _ = worker.connections.send(connection);
        }
    }
}

/// What one thread does.
async fn serve(
    proxy: Arc<Proxy>,
    mut accepted: mpsc::UnboundedReceiver<Connection>,
    open: Arc<AtomicUsize>,
    is_cut: watch::Receiver<bool>,
) {
    loop {
        let connection = tokio::select! {
            connection = accepted.recv() => connection,
            () = sleep(TICK), if open.load(Ordering::Relaxed) > 0 => continue,
        };
        let Some(connection) = connection else { return };
        let (proxy, mut is_cut) = (proxy.clone(), is_cut.clone());
        tokio::spawn(async move {
            let Connection { stream, stage, _open } = connection;
            let stream = match tokio::net::TcpStream::from_std(stream) {
                Ok(stream) => stream,
                Err(error) => return tracing::error!(%error, "an accepted connection can't be served"),
            };
            tokio::select! {
                () = connection::serve(stream, proxy, stage) => {}
                // Its open call is dropped with it, and so recorded.
                _ = is_cut.wait_for(|cut| *cut) => {}
            }
        });
    }
}

/// Counts a connection while it lives.
struct Open(Arc<AtomicUsize>);

impl Open {
    fn count(open: &Arc<AtomicUsize>) -> Open {
        open.fetch_add(1, Ordering::AcqRel);
        Open(open.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_connection_goes_to_the_thread_that_has_the_fewest() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = || TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (_, stage) = watch::channel(Stage::Open);
        let (workers, mut accepted): (Vec<_>, Vec<_>) = (0..3)
            .map(|_| {
                let (connections, accepted) = mpsc::unbounded_channel();
                let open = Arc::default();
                (Worker { connections, open }, accepted)
            })
            .unzip();
        let cut = watch::channel(false).0;
        let workers = Workers { workers, cut };
        let open = || {
            workers
                .workers
                .iter()
                .map(|worker| worker.open.load(Ordering::Relaxed))
                .collect::<Vec<_>>()
        };
        (0..6).for_each(|_| workers.take(stream(), stage.clone()));
        assert_eq!(open(), [2, 2, 2]);

        drop(accepted[1].try_recv().unwrap());
        assert_eq!(open(), [2, 1, 2]);
        workers.take(stream(), stage.clone());
        assert_eq!((open(), workers.open()), (vec![2, 2, 2], 6));

        // A thread that is gone takes none, and none is counted.
        accepted.clear();
        workers.take(stream(), stage);
        assert_eq!(workers.open(), 0);
    }
}
