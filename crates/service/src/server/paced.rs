//! A connection that is read in small steps, between which others have their turn: a client that sends hundreds of requests at
//! once must not occupy a network thread until all of them are read.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf, Take};

/// Bytes that are read at a time: some forty small requests.
const STEP_BYTES: u64 = 4 * 1024;

/// A stream that yields after each read.
pub(super) struct Paced<S> {
    /// Its limit is that of one step.
    stream: Take<S>,
    has_read: bool,
}

impl<S: AsyncRead> Paced<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream: stream.take(STEP_BYTES), has_read: false }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if std::mem::take(&mut self.has_read) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        self.stream.set_limit(STEP_BYTES);
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        self.has_read = buffer.filled().len() > before;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(self.stream.get_mut()).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.stream.get_mut()).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.stream.get_mut()).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(self.stream.get_mut()).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.get_ref().is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    const STEP: usize = STEP_BYTES as usize;

    #[tokio::test]
    async fn between_two_reads_others_have_their_turn_and_nothing_is_lost() {
        let bytes: Vec<u8> = (0..10_000_u32).map(|number| number as u8).collect();
        let mut stream = Paced::new(io::Cursor::new(bytes.clone()));
        let mut read = vec![0; 10_000];
        let first = futures_util::poll!(Box::pin(stream.read(&mut read)));
        assert!(matches!(first, Poll::Ready(Ok(STEP))));
        let mut rest = vec![0; 10_000];
        let mut next = Box::pin(stream.read(&mut rest));
        assert!(futures_util::poll!(&mut next).is_pending());
        assert!(matches!(futures_util::poll!(&mut next), Poll::Ready(Ok(STEP))));
        drop(next);
        let mut end = Vec::new();
        stream.read_to_end(&mut end).await.unwrap();
        assert_eq!([&read[..STEP], &rest[..STEP], &end].concat(), bytes);
    }
}
