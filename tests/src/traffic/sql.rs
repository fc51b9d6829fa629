//! As much of PostgreSQL's protocol (version 3.0) as a client needs that asks simple queries and has no password.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::reason;

/// Version 3.0, as the first message has it.
const VERSION: u32 = 3 << 16;
/// No message of a test is longer.
const LONGEST: usize = 1 << 20;

/// An open session as the user `postgres` in the database of that name.
#[derive(Debug)]
pub struct Session {
    stream: TcpStream,
    is_standby: bool,
}

/// What went wrong with a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SqlError {
    /// The server said no, with one of its codes: what was asked for has not been done.
    Refused { code: String, message: String },
    /// The connection has ended, or no answer came in time: what was asked for may have been done or not.
    Lost(String),
}

impl std::fmt::Display for SqlError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SqlError::Refused { code, message } => write!(f, "{message} ({code})"),
            SqlError::Lost(why) => write!(f, "{why}"),
        }
    }
}

impl std::error::Error for SqlError {}

impl From<io::Error> for SqlError {
    fn from(error: io::Error) -> Self {
        SqlError::Lost(match error.kind() {
            io::ErrorKind::UnexpectedEof => "connection closed by the server".to_owned(),
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "no answer in time".to_owned(),
            _ => reason(&error),
        })
    }
}

impl Session {
    /// Connects from the calling thread's namespace; `patience` bounds this and each answer.
    pub fn connect(target: SocketAddr, patience: Duration) -> Result<Self, SqlError> {
        let stream = TcpStream::connect_timeout(&target, patience)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        let mut session = Session { stream, is_standby: false };
        let mut body = VERSION.to_be_bytes().to_vec();
        body.extend_from_slice(b"user\0postgres\0database\0postgres\0\0");
        let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
        session.stream.write_all(&[&length.to_be_bytes()[..], &body].concat())?;
        session.answer()?;
        Ok(session)
    }

    /// The server told, last, that it cannot be written to as it is a standby.
    pub fn is_standby(&self) -> bool {
        self.is_standby
    }

    /// Asks, and gives all columns of all rows as text; nothing for null.
    pub fn query(&mut self, sql: &str) -> Result<Vec<Vec<String>>, SqlError> {
        self.send(b'Q', &[sql.as_bytes(), &[0]].concat())?;
        self.answer()
    }

    /// Says goodbye.
    pub fn close(mut self) {
        // It is over either way.
        let _ = self.send(b'X', &[]);
    }

    fn send(&mut self, kind: u8, body: &[u8]) -> io::Result<()> {
        let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
        self.stream.write_all(&[&[kind][..], &length.to_be_bytes(), body].concat())
    }

    fn receive(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let mut head = [0; 5];
        self.stream.read_exact(&mut head)?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if !(4..LONGEST).contains(&length) {
            return Err(io::Error::other("that is not PostgreSQL's protocol"));
        }
        let mut body = vec![0; length - 4];
        self.stream.read_exact(&mut body)?;
        Ok((head[0], body))
    }

    /// Everything up to when the server is ready for a query.
    fn answer(&mut self) -> Result<Vec<Vec<String>>, SqlError> {
        let (mut rows, mut refused) = (Vec::new(), None);
        loop {
            let (kind, body) = self.receive()?;
            match kind {
                b'Z' => return refused.map_or(Ok(rows), Err),
                b'D' => rows.push(columns(&body)),
                b'S' => {
                    if let Some(value) = body.strip_prefix(b"in_hot_standby\0") {
                        self.is_standby = value.starts_with(b"on");
                    }
                }
                b'R' if body != [0; 4] => {
                    return Err(SqlError::Lost("it wants a password".to_owned()));
                }
                b'E' => {
                    let field = |wanted| field(&body, wanted);
                    // `V` is the severity, in English whatever the locale.
                    if field(b'V') != "ERROR" {
                        return Err(SqlError::Lost(format!("{} ({})", field(b'M'), field(b'C'))));
                    }
                    refused = Some(SqlError::Refused { code: field(b'C'), message: field(b'M') });
                }
                _ => {}
            }
        }
    }
}

/// The columns of a row: how many, then the length and text of each; of null the length is -1.
fn columns(body: &[u8]) -> Vec<String> {
    let mut rest = body.get(2..).unwrap_or_default();
    let mut columns = Vec::new();
    while let Some((length, more)) = rest.split_first_chunk::<4>() {
        let length = usize::try_from(i32::from_be_bytes(*length)).unwrap_or(0).min(more.len());
        columns.push(String::from_utf8_lossy(&more[..length]).into_owned());
        rest = &more[length..];
    }
    columns
}

/// A field of an error: each has its letter, and text up to a zero.
fn field(body: &[u8], wanted: u8) -> String {
    let mut fields = body.split(|&byte| byte == 0).filter_map(|field| field.split_first());
    let found = fields.find(|(letter, _)| **letter == wanted);
    found.map(|(_, text)| String::from_utf8_lossy(text).into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_errors_are_read() {
        assert_eq!(columns(b"\0\x03\0\0\0\x0217\xff\xff\xff\xff\0\0\0\x01x"), ["17", "", "x"]);
        assert_eq!(columns(b"\0\x01\0\0\0\x09short"), ["short"]);
        let error = b"SERROR\0VERROR\0C25006\0Mcannot execute INSERT in a read-only transaction\0\0";
        assert_eq!((field(error, b'V').as_str(), field(error, b'C').as_str()), ("ERROR", "25006"));
        assert_eq!(field(error, b'D'), "");
    }
}
