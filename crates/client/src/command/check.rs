//! `client check`: what there is to know before a client is started, found out without connecting.

use std::path::Path;

use cli_support::home::Home;
use cli_support::identity::Identity as _;
use cli_support::{output, private_file};
use crypto_core::identity::ClientKey;

use crate::Error;
use crate::command::outcome::Outcome;
use crate::config;
use crate::named_servers::NamedServers;
use crate::server::Server;
use crate::trust::KnownServers;

/// Reads the configuration and all that it goes by, and says that it is good.
///
/// # Errors
/// As for a client that is started with it: [`Error::Program`] that names a file, and in a configuration the line;
/// [`Error::KnownServers`].
pub fn check(home: &Home, file: Option<&Path>) -> Result<(), Error> {
    let (config, path) = config::read(file)?;
    config.status_options().check()?;
    let key = home.file(ClientKey::FILE_NAME);
    if !private_file::is_absent(&key)? {
        // What is in it may need a passphrase, which nobody is asked for here.
        private_file::read(&key)?;
    }
    let known_servers = KnownServers::new(home.clone());
    NamedServers::new(home.clone()).all()?;
    for forward in &config.forwards {
        let server = Server::from_options(&forward.server, &forward.trust, home)?;
        for address in server.addresses() {
            known_servers.find(address)?;
        }
    }
    if output::is_json() {
        let path = path.map(|path| path.display().to_string());
        return Outcome::Checked { path: path.as_deref(), forwards: config.forwards.len() }.tell();
    }
    match path {
        Some(path) => {
            let servers = servers(config.forwards.len());
            output::print(format_args!("{}: good, forwards for {servers}", path.display()))?;
        }
        None => output::print("no configuration file: forward needs an address")?,
    }
    Ok(())
}

fn servers(count: usize) -> String {
    if count == 1 { "1 server".into() } else { format!("{count} servers") }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn whatever_a_forward_would_stumble_over_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::resolve(Some(folder.path().into())).unwrap();
        let file = folder.path().join("client.toml");
        let write = |name: &str, text: &str, mode| {
            std::fs::write(folder.path().join(name), text).unwrap();
            std::fs::set_permissions(folder.path().join(name), Permissions::from_mode(mode)).unwrap();
        };
        let good = "[[forward]]\nserver = 'a:1'\nlocal = ['1:@db']\n";
        let checked = || check(&home, Some(&file));
        assert!(checked().is_err(), "a file that was named has to exist");
        write("client.toml", good, 0o600);
        checked().unwrap();
        write("client.toml", "[[forward]]\nserver = 'a b'\n", 0o600);
        assert!(checked().unwrap_err().to_string().contains("line 2"));
        write("client.toml", &format!("{good}psk = 'laptop.psk'\n"), 0o600);
        assert!(checked().unwrap_err().to_string().contains("laptop.psk"));
        write("client.toml", &good.replace("a:1", "gate"), 0o600);
        assert!(matches!(checked(), Err(Error::UnknownName { .. })));
        write("client.toml", good, 0o600);
        write("servers.toml", "version = 1\nserver = 1\n", 0o600);
        assert!(checked().unwrap_err().to_string().contains("line 2"));
        std::fs::remove_file(folder.path().join("servers.toml")).unwrap();
        write("known_servers", "a:1\n", 0o600);
        assert!(matches!(checked(), Err(Error::KnownServers { line: 1, .. })));
        std::fs::remove_file(folder.path().join("known_servers")).unwrap();
        write("client.key", "", 0o644);
        assert!(matches!(checked(), Err(Error::Program(cli_support::Error::Exposed { .. }))));
    }
}
