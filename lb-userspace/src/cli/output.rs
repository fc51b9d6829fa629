//! Standard output that may be closed before we are done with it, as in `sluice flows | head`.

use std::io::{self, Write};

use anyhow::Context;
use serde::Serialize;

use super::exit::Failure;

/// A writer that swallows a broken pipe, so that the exit code stays that of the work, not of its reader.
pub struct Out {
    stream: Box<dyn Write + Send>,
    closed: bool,
}

impl Out {
    pub fn stdout() -> Self {
        Out::to(io::stdout())
    }

    pub fn stderr() -> Self {
        Out::to(io::stderr())
    }

    pub fn to(stream: impl Write + Send + 'static) -> Self {
        Out { stream: Box::new(stream), closed: false }
    }

    /// Nobody reads any more: a verb whose only work is to print may end.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Writes and flushes. Fails for every reason but a broken pipe, for example a full disk.
    pub fn print(&mut self, text: &str) -> Result<(), Failure> {
        if self.closed {
            return Ok(());
        }
        match self.stream.write_all(text.as_bytes()).and_then(|()| self.stream.flush()) {
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => {
                self.closed = true;
                Ok(())
            }
            written => Ok(written.context("cannot write the output")?),
        }
    }

    /// One JSON document, indented for `pretty`, else on one line.
    pub fn json<T: Serialize>(&mut self, body: &T, pretty: bool) -> Result<(), Failure> {
        let text = if pretty { serde_json::to_string_pretty(body) } else { serde_json::to_string(body) };
        let text = text.context("cannot write the answer as JSON")?;
        self.print(&(text + "\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fails(io::ErrorKind);

    impl Write for Fails {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn only_a_broken_pipe_is_quiet() {
        let mut out = Out::to(Fails(io::ErrorKind::BrokenPipe));
        assert!(out.print("x").is_ok());
        assert!(out.is_closed());
        assert!(Out::to(Fails(io::ErrorKind::StorageFull)).print("x").is_err());
    }
}
