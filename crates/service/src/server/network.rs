//! A runtime of its own for accepting connections, reading requests and writing answers. It is separate from the
//! runtime that does the work, so that a request gets its arrival time, and if need be its refusal, at once even under
//! full load.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;
use tokio::runtime::{Builder, Handle, Runtime};

/// Two, so that connections are accepted while one thread is busy with a long answer.
const THREADS: usize = 2;

/// The runtime that serves network connections.
#[derive(Debug)]
pub(super) struct Network {
    handle: Handle,
    /// Always `Some` until `drop` takes it.
    runtime: Option<Runtime>,
}

impl Network {
    /// Starts the threads.
    pub(super) fn start() -> io::Result<Self> {
        let runtime =
            Builder::new_multi_thread().worker_threads(THREADS).thread_name("network").enable_all().build()?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Binds a listener that is registered with this runtime.
    pub(super) fn listen(&self, address: SocketAddr) -> io::Result<TcpListener> {
        let _entered = self.handle().enter();
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // Dropping a runtime blocks until its threads end, which tokio forbids within another runtime.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
