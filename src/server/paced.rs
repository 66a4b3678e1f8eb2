//! A connection that is read in small steps, between which others have their turn: a client that sends hundreds of requests at
//! once must not occupy a network thread until all of them are read.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that are read at a time: some forty small requests.
const STEP_BYTES: usize = 4 * 1024;

/// A stream that yields after each read.
pub(super) struct Paced<S> {
    stream: S,
    has_read: bool,
}

impl<S> Paced<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, has_read: false }
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
        let room = buffer.remaining().min(STEP_BYTES);
        let mut step = ReadBuf::new(buffer.initialize_unfilled_to(room));
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut step))?;
        let read = step.filled().len();
        buffer.advance(read);
        self.has_read = read > 0;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn between_two_reads_others_have_their_turn_and_nothing_is_lost() {
        let bytes: Vec<u8> = (0..10_000_u32).map(|number| number as u8).collect();
        let mut stream = Paced::new(io::Cursor::new(bytes.clone()));
        let mut read = vec![0; 10_000];
        let first = futures_util::poll!(Box::pin(stream.read(&mut read)));
        assert!(matches!(first, Poll::Ready(Ok(STEP_BYTES))));
        let mut rest = vec![0; 10_000];
        let mut next = Box::pin(stream.read(&mut rest));
        assert!(futures_util::poll!(&mut next).is_pending());
        assert!(matches!(futures_util::poll!(&mut next), Poll::Ready(Ok(STEP_BYTES))));
        drop(next);
        let mut end = Vec::new();
        stream.read_to_end(&mut end).await.unwrap();
        assert_eq!([&read[..STEP_BYTES], &rest[..STEP_BYTES], &end].concat(), bytes);
    }
}
