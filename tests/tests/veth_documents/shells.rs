//! Completions: what the program answers to a shell's script, and the scripts in real shells.

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use super::Terminal;

/// Shells ask the program itself, so this is what they get.
fn asked(shell: &str, terminal: &Terminal, line: &[&str], index: usize) -> String {
    let mut command = Command::new(terminal.daemon.binary());
    command
        .env("SLUICE_COMPLETE", shell)
        .env("_CLAP_COMPLETE_INDEX", index.to_string())
        .env("_CLAP_IFS", "\n")
        .env("_CLAP_COMPLETE_COMP_TYPE", "9")
        .env("_CLAP_COMPLETE_SPACE", "true")
        .arg("--")
        .args(line);
    let output = terminal.topology.balancer().ns.output(command).unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// A shell's user waits for less than a second, and gets no names where the daemon takes longer; on a busy machine that may be.
fn are_offered(shell: &str, terminal: &Terminal, line: &[&str], names: &[&str]) {
    let began = Instant::now();
    loop {
        let offered = asked(shell, terminal, line, line.len() - 1);
        if names.iter().all(|name| offered.contains(name)) {
            return;
        }
        assert!(began.elapsed() < sluice_tests::LIMIT, "{shell}: {line:?}: {offered:?}");
    }
}

#[test]
fn shells_complete_verbs_and_names_of_hosts_and_services() {
    let terminal = Terminal::start();
    let instance = terminal.daemon.instance();
    for shell in ["bash", "zsh", "fish"] {
        let verbs = asked(shell, &terminal, &["sluice", "und"], 1);
        assert!(verbs.contains("undrain"), "{shell}: {verbs:?}");
        let hosts = ["web-1", "web-2", "web-3"];
        for verb in
            [&["drain"][..], &["health"], &["health", "test"], &["plan", "drain"], &["flows", "--host"]]
        {
            let line = [&["sluice", "--instance", instance], verb, &[""]].concat();
            are_offered(shell, &terminal, &line, &hosts);
        }
        let line = ["sluice", "--instance", instance, "drain", "web-1", "--service", ""];
        are_offered(shell, &terminal, &line, &["web", "api"]);
        let none = asked(shell, &terminal, &["sluice", "--instance", "nobody", "drain", ""], 4);
        assert!(!none.contains("web-1"), "{shell}: {none:?}");
    }
}

/// The scripts in real shells, whose names a user types beside: `sluice` is the program under test.
struct Shells {
    terminal: Terminal,
    folder: PathBuf,
}

impl Shells {
    fn start() -> Self {
        let terminal = Terminal::start();
        let folder = terminal.folder.path().join("bin");
        std::fs::create_dir(&folder).unwrap();
        std::os::unix::fs::symlink(terminal.daemon.binary(), folder.join("sluice")).unwrap();
        Shells { terminal, folder }
    }

    /// What a shell prints of a script that finds `sluice` in its `PATH`. It ends after 20 seconds.
    fn run(&self, shell: &str, args: &[&str], script: &str) -> String {
        let path = format!("{}:{}", self.folder.display(), std::env::var("PATH").unwrap());
        let mut command = Command::new("timeout");
        command.args(["20", shell]).args(args).args(["-c", script]);
        command.env("PATH", path).env("HOME", &self.folder).env("INSTANCE", self.terminal.daemon.instance());
        command.env_remove("EDITOR").env_remove("VISUAL");
        let output = self.terminal.topology.balancer().ns.output(command).unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    }

    /// A daemon that takes longer than a user waits gives no names.
    fn offers_hosts(&self, shell: &str, args: &[&str], script: &str) {
        let began = Instant::now();
        loop {
            let offered = self.run(shell, args, script);
            if offered.contains("web-1") && offered.contains("web-3") {
                return;
            }
            assert!(began.elapsed() < sluice_tests::LIMIT, "{shell}: {offered}");
        }
    }
}

#[test]
fn bash_and_fish_take_their_scripts() {
    let shells = Shells::start();
    shells.offers_hosts(
        "bash",
        &[],
        "source <(sluice completions bash); \
         COMP_WORDS=(sluice --instance $INSTANCE drain web-); COMP_CWORD=4; COMP_TYPE=9; \
         $(complete -p sluice | sed -n 's/.*-F \\([^ ]*\\).*/\\1/p') sluice web- drain; echo \"${COMPREPLY[@]}\"",
    );
    let script = "sluice completions fish | source; ";
    let verbs = shells.run("fish", &["--no-config"], &format!("{script} complete -C 'sluice und'"));
    assert!(verbs.starts_with("undrain\t"), "{verbs:?}");
    let hosts = format!("{script} complete -C \"sluice --instance $INSTANCE drain web-\"");
    shells.offers_hosts("fish", &["--no-config"], &hosts);
}

/// The script lies where zsh looks for functions, and loads it when a user first asks: that one is to be answered, too.
#[test]
fn zsh_completes_from_the_first_tab_of_a_session() {
    let shells = Shells::start();
    let session = |line: &str, shown: &str| {
        // The prompt is put together, so that it is not found in what is typed.
        format!(
            r"mkdir -p $HOME/functions; sluice completions zsh > $HOME/functions/_sluice; zmodload zsh/zpty; zpty shell zsh -f -i
zpty -w -n shell $'fpath=($HOME/functions $fpath); autoload -Uz compinit; compinit -u -D; PS1=rea\'\'dy:\n'
zpty -r shell out '*ready:*'
zpty -w -n shell $'{line}\t'; {shown}; print -r -- $out; zpty -d shell"
        )
    };
    // The line as it is after the TAB.
    let whole =
        r"zpty -w -n shell $'\x01print -r IT_IS \n'; zpty -r shell out $'*\nIT_IS sluice und*ready:*'";
    let shown = shells.run("zsh", &["-f"], &session("sluice und", whole));
    assert!(shown.contains("\nIT_IS sluice undrain"), "{shown}");
    let line = format!("sluice --instance {} drain web-", shells.terminal.daemon.instance());
    // In whatever order they are shown.
    let hosts = session(&line, "zpty -r shell out '*web-[123]*web-[123]*web-[123]*'");
    shells.offers_hosts("zsh", &["-f"], &hosts);
}
