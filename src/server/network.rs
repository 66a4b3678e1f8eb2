//! The threads that accept connections, read requests and write answers. They are apart from the workers, so that a request is
//! dated when it arrives and refused at once however much work is under way.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;
use tokio::runtime::{Builder, Handle, Runtime};

/// One may be busy with a long answer while the other accepts.
const THREADS: usize = 2;

/// A runtime of its own for the network.
#[derive(Debug)]
pub(super) struct Network {
    handle: Handle,
    /// Until it is dropped.
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

    /// A listener that the threads serve.
    pub(super) fn listen(&self, address: SocketAddr) -> io::Result<TcpListener> {
        let _entered = self.handle().enter();
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // Waiting for the threads would block the runtime that drops this.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
