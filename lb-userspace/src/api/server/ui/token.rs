//! The token file: who may change something over the page.
//!
//! ```text
//! # name token
//! operator 3f6c…
//! ```

use std::fmt::Write as _;
use std::fs::{File, Metadata};
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, bail};
use nix::unistd::{User, geteuid};
use subtle::ConstantTimeEq;

/// Of the token that is made when there is none.
const FIRST: &str = "operator";
/// Random bytes of it.
const BYTES: usize = 32;
/// Letters of the shortest token that is taken: 128 bits, in hex.
const SHORTEST: usize = 32;
/// Bytes of a file that could have been meant.
const LARGEST: u64 = 64 << 10;

/// Tokens, as the file has them now.
pub struct Tokens {
    file: PathBuf,
    read: Mutex<ReadOut>,
}

struct ReadOut {
    stamp: Option<Stamp>,
    tokens: Vec<Token>,
}

struct Token {
    name: String,
    secret: String,
}

/// What changes when a file is written, or another takes its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp(u64, u64, i64, i64, u64);

impl Stamp {
    pub fn of(metadata: &Metadata) -> Self {
        Stamp(metadata.dev(), metadata.ino(), metadata.mtime(), metadata.mtime_nsec(), metadata.len())
    }
}

impl Tokens {
    /// Reads the file; one that is not there is made first, with a token that nobody knows yet.
    ///
    /// # Errors
    /// Others may read it, or it has a line that is no token.
    pub fn open(file: PathBuf) -> anyhow::Result<Self> {
        if make(&file).with_context(|| format!("cannot make the token file {}", file.display()))? {
            log::info!("a token for the page was made: {} has it", file.display());
        }
        let (stamp, tokens) = read(&file)?;
        log::info!("{} tokens for the page in {}", tokens.len(), file.display());
        Ok(Tokens { file, read: Mutex::new(ReadOut { stamp: Some(stamp), tokens }) })
    }

    /// Whose token this is. How long that takes does not tell how much of it is right.
    pub fn name_of(&self, shown: &str) -> Option<String> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        self.follow(&mut read);
        let mut found = None;
        for token in &read.tokens {
            if bool::from(token.secret.as_bytes().ct_eq(shown.as_bytes())) {
                found = Some(token.name.clone());
            }
        }
        found
    }

    /// Reads the file again if it has changed. From one that is of no use nobody has a token.
    fn follow(&self, known: &mut ReadOut) {
        let stamp = std::fs::metadata(&self.file).ok().map(|metadata| Stamp::of(&metadata));
        if stamp == known.stamp && stamp.is_some() {
            return;
        }
        match read(&self.file) {
            Ok((stamp, tokens)) => {
                log::info!("{} tokens for the page in {}", tokens.len(), self.file.display());
                *known = ReadOut { stamp: Some(stamp), tokens };
            }
            Err(error) => {
                // Once for each state of the file.
                if stamp != known.stamp || !known.tokens.is_empty() {
                    log::error!("nobody can change anything over the page: {error:#}");
                }
                *known = ReadOut { stamp, tokens: Vec::new() };
            }
        }
    }
}

/// Whether there was none. It is written under another name first: one that is there is whole, also after a crash or on a disk that was full.
fn make(file: &Path) -> anyhow::Result<bool> {
    if file.try_exists()? {
        return Ok(false);
    }
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut made = tempfile::Builder::new().prefix(".token").tempfile_in(folder)?;
    let mut random = [0; BYTES];
    File::open("/dev/urandom")?.read_exact(&mut random)?;
    let token = random.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    });
    writeln!(
        made,
        "# Tokens of Sluice's page, one a line: NAME TOKEN. The name stands in the journal, as web:NAME.\n\
         # Another one: echo \"alice $(openssl rand -hex 32)\"\n{FIRST} {token}"
    )?;
    made.as_file().sync_all()?;
    match made.persist_noclobber(file) {
        Ok(_) => Ok(true),
        // Somebody else was faster.
        Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error.error.into()),
    }
}

fn read(path: &Path) -> anyhow::Result<(Stamp, Vec<Token>)> {
    let name = path.display();
    let file = File::open(path).with_context(|| format!("cannot read the token file {name}"))?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        bail!("the token file {name} is no file");
    }
    if metadata.mode() & 0o077 != 0 {
        bail!("the token file {name} is open to others: `chmod 600 {name}`, and replace its tokens");
    }
    let own = geteuid();
    if metadata.uid() != own.as_raw() && metadata.uid() != 0 {
        // Root's own could not be read by it, with the mode that it must have.
        let user = User::from_uid(own).ok().flatten().map_or_else(|| own.to_string(), |user| user.name);
        bail!("the token file {name} belongs to another user: `chown {user} {name}`, and replace its tokens");
    }
    let mut text = String::new();
    file.take(LARGEST)
        .read_to_string(&mut text)
        .with_context(|| format!("cannot read the token file {name}"))?;
    let tokens = parse(&text).with_context(|| format!("the token file {name} is wrong"))?;
    Ok((Stamp::of(&metadata), tokens))
}

fn parse(text: &str) -> anyhow::Result<Vec<Token>> {
    let mut tokens = Vec::new();
    for (number, line) in text.lines().enumerate().map(|(number, line)| (number + 1, line.trim())) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut words = line.split_whitespace();
        let (Some(name), Some(secret), None) = (words.next(), words.next(), words.next()) else {
            bail!("line {number} is not NAME TOKEN");
        };
        let is_letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '@');
        if name.len() > 32 || !name.chars().all(is_letter) {
            bail!(
                "line {number} has a name with other letters than a-z, 0-9, `.`, `_`, `-`, `@`, or more than 32 of them"
            );
        }
        if secret.len() < SHORTEST || !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
            bail!(
                "line {number} has a token of less than {SHORTEST} letters: take one of `openssl rand -hex 32`"
            );
        }
        tokens.push(Token { name: name.to_owned(), secret: secret.to_owned() });
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn secret(path: &Path) -> String {
        let text = fs::read_to_string(path).unwrap();
        text.lines().last().unwrap().split_once(' ').unwrap().1.to_owned()
    }

    #[test]
    fn the_first_token_is_made_once_and_for_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let tokens = Tokens::open(path.clone()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let first = secret(&path);
        assert_eq!(first.len(), 2 * BYTES);
        assert_eq!(tokens.name_of(&first).as_deref(), Some(FIRST));
        for wrong in ["", " ", "operator", &first[1..], &first.to_uppercase(), &format!("{first}0")] {
            // One of digits alone has no other letters.
            if wrong != first {
                assert_eq!(tokens.name_of(wrong), None, "{wrong}");
            }
        }
        Tokens::open(path.clone()).unwrap();
        assert_eq!(secret(&path), first, "one that is there is kept");
        let other = folder.path().join("other");
        Tokens::open(other.clone()).unwrap();
        assert_ne!(secret(&other), first);
        assert!(Tokens::open(folder.path().join("no/such/folder")).is_err());
    }

    #[test]
    fn whoever_sees_the_file_sees_all_of_it() {
        let folder = tempfile::tempdir().unwrap();
        for n in 0..300 {
            let path = folder.path().join(n.to_string());
            let made = path.clone();
            let maker = std::thread::spawn(move || Tokens::open(made).unwrap());
            let text = loop {
                if let Ok(text) = fs::read_to_string(&path) {
                    break text;
                }
                std::hint::spin_loop();
            };
            assert!(text.ends_with('\n') && text.contains(FIRST), "{n}: {text:?}");
            maker.join().unwrap();
        }
        let left = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(left, 300, "nothing else is left beside them");
    }

    #[test]
    fn a_file_that_changes_is_followed_and_one_that_is_no_good_lets_nobody_in() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let tokens = Tokens::open(path.clone()).unwrap();
        let first = secret(&path);
        let [one, two] = ["1".repeat(32), "2".repeat(40)];
        fs::write(&path, format!("# who\n\nalice {one}\n  bob\t{two} \n")).unwrap();
        assert_eq!(tokens.name_of(&one).as_deref(), Some("alice"));
        assert_eq!(tokens.name_of(&two).as_deref(), Some("bob"));
        assert_eq!(tokens.name_of(&first), None, "taken away at once");
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        fs::write(&path, format!("alice {one}\n")).unwrap();
        assert_eq!(tokens.name_of(&one), None, "others may have read it");
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, format!("alice {one}\n\n")).unwrap();
        assert_eq!(tokens.name_of(&one).as_deref(), Some("alice"));
        fs::remove_file(&path).unwrap();
        assert_eq!(tokens.name_of(&one), None);
    }

    #[test]
    fn lines_that_are_no_tokens_are_told() {
        for (text, what) in [
            ("alice", "line 1 is not"),
            ("# x\nalice a b", "line 2 is not"),
            ("alice short", "less than 32"),
            ("al:ice 00000000000000000000000000000000", "other letters"),
        ] {
            let error = parse(text).err().unwrap().to_string();
            assert!(error.contains(what) && !error.contains("short,"), "{error}");
        }
        assert!(parse("# nobody\n").unwrap().is_empty());
    }
}
