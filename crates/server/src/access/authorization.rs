//! Authorization: decides, by the file of clients, whether a client may connect or stay connected.

use wire_protocol::message::ClientIdentity;

use crate::access::anonymous::AnonymousPolicy;
#[cfg(test)]
use crate::access::clients::Access;
use crate::access::policy::{Action, Denial, Request, permits};
use crate::access::principal::{Origin, Principal};
use crate::access::snapshot::Snapshot;

impl Snapshot {
    /// Decides whether a client may connect. Every client is refused while the file cannot be used.
    pub(crate) fn authorize(
        &self,
        client: &ClientIdentity,
        origin: Origin,
        anonymous: AnonymousPolicy,
    ) -> Result<Principal, Denial> {
        enter(Principal::identify(client, self, origin, anonymous), origin)
    }

    /// Decides again on a connected client. `None` where the file cannot be used at the moment, since its repair
    /// must not disconnect all clients. No client may stay once the file has been missing for longer.
    pub(crate) fn reauthorize(
        &self,
        client: &ClientIdentity,
        origin: Origin,
        anonymous: AnonymousPolicy,
    ) -> Option<Result<Principal, Denial>> {
        match self {
            Self::Unusable => None,
            Self::Known(_) | Self::Lost => Some(self.authorize(client, origin, anonymous)),
        }
    }

    /// Returns whether a client without a key may connect at all.
    pub(crate) fn admits_anonymous(&self, origin: Origin, anonymous: AnonymousPolicy) -> bool {
        self.authorize(&ClientIdentity::Anonymous, origin, anonymous).is_ok()
    }
}

/// Decides whether a client may connect or stay connected.
pub(crate) fn enter(principal: Principal, Origin { source, .. }: Origin) -> Result<Principal, Denial> {
    permits(&Request { principal: &principal, source, action: Action::Enter })?;
    Ok(principal)
}

#[cfg(test)]
impl Access {
    /// The reason why a client that comes from `source` over the network is refused by this list, if it is.
    pub(crate) fn denial(&self, client: &ClientIdentity, source: Option<std::net::IpAddr>) -> Option<Denial> {
        let snapshot = Snapshot::Known(Some(self.clone().into()));
        let origin = Origin { source, is_local: false };
        enter(Principal::identify(client, &snapshot, origin, AnonymousPolicy::Refuse), origin).err()
    }
}

#[cfg(test)]
mod tests {
    use cli_support::home::Home;
    use cli_support::private_file;
    use crypto_core::identity::KeyId;
    use jiff::Timestamp;

    use super::*;
    use crate::access::credential::Credential;
    use crate::access::file::AccessFile;
    use crate::access::grant::Grant;
    use crate::access::principal::Enrolment;
    use crate::access::rights::Rights;
    use crate::access::rule::Transport;
    use crate::error::Error;

    const LOCAL: Origin = Origin { source: None, is_local: true };
    const REMOTE: Origin = Origin { source: None, is_local: false };

    fn file() -> (tempfile::TempDir, AccessFile) {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::resolve(Some(folder.path().into())).unwrap();
        (folder, AccessFile::new(home))
    }

    fn file_that_says(text: &str) -> (tempfile::TempDir, AccessFile) {
        let (folder, file) = file();
        private_file::replace(file.path(), text.as_bytes()).unwrap();
        (folder, file)
    }

    fn allow(file: &AccessFile, key: KeyId, name: &str, grant: Grant) -> Result<(), Error> {
        file.edit(|access| access.allow(&Credential::Key(key), Some(&name.parse()?), grant)).map(drop)
    }

    fn usual() -> Grant {
        Grant::unlimited(Rights::usual())
    }

    fn key(id: KeyId) -> ClientIdentity {
        ClientIdentity::Key(id)
    }

    fn psk(name: &str) -> ClientIdentity {
        ClientIdentity::Psk(name.into())
    }

    const ALICE: KeyId = KeyId([1; 32]);
    const BOB: KeyId = KeyId([2; 32]);

    #[test]
    fn anonymous_clients_are_refused_once_a_client_was_allowed_even_after_its_revocation() {
        let (_folder, file) = file();
        let anonymous =
            |origin| file.consult().authorize(&ClientIdentity::Anonymous, origin, AnonymousPolicy::Refuse);
        assert_eq!(*anonymous(LOCAL).unwrap().grant.rights, Rights::messages_alone());
        assert_eq!(anonymous(REMOTE), Err(Denial::NoKey));

        allow(&file, ALICE, "alice", usual()).unwrap();
        assert_eq!(anonymous(LOCAL), Err(Denial::NoKey));
        let alice = || file.consult().authorize(&key(ALICE), REMOTE, AnonymousPolicy::Refuse);
        assert_eq!(alice().unwrap().name, "alice");

        file.edit(|access| access.revoke("alice")).unwrap();
        assert_eq!(alice(), Err(Denial::NotEnrolled));
        assert_eq!(anonymous(LOCAL), Err(Denial::NoKey));
    }

    #[test]
    fn clients_that_nobody_has_allowed_never_get_a_tunnel() {
        let (_folder, file) = file();
        for client in [ClientIdentity::Anonymous, key(BOB)] {
            let principal = file.consult().authorize(&client, REMOTE, AnonymousPolicy::Admit).unwrap();
            assert_eq!(
                (&*principal.grant.rights, principal.enrolment),
                (&Rights::usual(), Enrolment::Anonymous)
            );
            assert_eq!(principal.identity, client);
        }
    }

    #[test]
    fn a_principal_has_the_rights_that_were_named_for_it() {
        let (_folder, file) = file_that_says(&format!(
            "[[client]]\nname = \"alice\"\nkey = \"{ALICE}\"\ntcp = [\"10.0.0.1:5432\"]\n\
             [[client]]\nname = \"bob\"\nkey = \"{BOB}\"\nmessages = false\n\
             [[psk]]\nname = \"laptop\"\nservice = [\"db\"]\nmax_channels = 3\nmax_rate = \"1KiB\"\n"
        ));
        let rights = |client: &ClientIdentity| {
            file.consult().authorize(client, REMOTE, AnonymousPolicy::Admit).unwrap().grant.rights
        };
        let alice = rights(&key(ALICE));
        assert!(alice.may_resolve(Transport::Tcp, "10.0.0.1", 5432) && !alice.messages && !alice.pipe);
        assert!(rights(&key(BOB)).is_none());
        let laptop = rights(&psk("laptop"));
        assert!(laptop.allows_service("db") && !laptop.messages);
        assert_eq!((laptop.max_channels(), laptop.max_rate().map(u64::from)), (Some(3), Some(1024)));
        // The server uses this key, but the file does not list it.
        assert_eq!(*rights(&psk("tablet")), Rights::usual());
    }

    #[test]
    fn a_client_that_has_expired_or_is_elsewhere_is_not_let_in_as_an_anonymous_one() {
        let (_folder, file) = file();
        let now = Timestamp::now();
        let hour = std::time::Duration::from_secs(3600);
        let network = || Some(vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]);
        let near = || "10.1.2.3".parse().unwrap();
        let far = "11.0.0.1".parse().unwrap();
        let mapped = "::ffff:10.1.2.3".parse().unwrap();
        for (expires, from, source, admitted) in [
            (None, None, None, true),
            (None, None, Some(far), true),
            (Some(now + hour), None, None, true),
            (Some(now - hour), None, None, false),
            (Some(now), None, None, false),
            (None, network(), Some(near()), true),
            (None, network(), Some(mapped), true),
            (None, network(), Some("fdff::1".parse().unwrap()), true),
            (None, network(), Some(far), false),
            (None, network(), Some("127.0.0.1".parse().unwrap()), false),
            (None, network(), Some("::1".parse().unwrap()), false),
            (None, network(), None, false),
            (None, Some(Vec::new()), Some(near()), false),
            (Some(now + hour), network(), Some(near()), true),
            (Some(now - hour), network(), Some(near()), false),
        ] {
            let grant = Grant { expires, from, ..usual() };
            allow(&file, ALICE, "alice", grant.clone()).unwrap();
            file.edit(|access| access.note_psk("laptop")).unwrap();
            file.edit(|access| access.allow(&"psk:laptop".parse()?, None, grant.clone())).unwrap();
            for client in [key(ALICE), psk("laptop")] {
                for anonymous in [AnonymousPolicy::Refuse, AnonymousPolicy::Admit] {
                    let result =
                        file.consult().authorize(&client, Origin { source, is_local: true }, anonymous);
                    let expired = expires.filter(|expires| *expires <= now);
                    let denial = expired.map_or(Denial::Elsewhere(source), Denial::Expired);
                    let expected = if admitted { None } else { Some(denial) };
                    assert_eq!(result.err(), expected, "{grant:?} from {source:?}");
                }
            }
        }
    }

    #[test]
    fn a_file_without_rights_means_messages_and_the_pipe() {
        let (_folder, file) = file_that_says(&format!(
            "# As it was written before there were rights.\n\
             [[client]]\nname = \"alice\"\nkey = \"{ALICE}\"\n\
             [[psk]]\nname = \"laptop\"\nrevoked = false\n[[psk]]\nname = \"phone\"\nrevoked = true\n"
        ));
        let authorize =
            |client: &ClientIdentity| file.consult().authorize(client, LOCAL, AnonymousPolicy::Refuse);
        assert_eq!(*authorize(&key(ALICE)).unwrap().grant.rights, Rights::usual());
        assert_eq!(*authorize(&psk("laptop")).unwrap().grant.rights, Rights::usual());
        assert_eq!(authorize(&psk("phone")), Err(Denial::Revoked));
        let before = file.read().unwrap().unwrap();
        file.edit(|_| Ok(())).unwrap();
        assert_eq!(file.read().unwrap().unwrap(), before);
    }

    /// Checks the error for a mistake in the third line of an entry.
    #[track_caller]
    fn check_mistake(line: &str, said: &str) {
        let (_folder, file) = file_that_says(&format!("[[psk]]\nname = \"a\"\n{line}\n"));
        let error = file.read().unwrap_err().to_string();
        assert!(error.contains("line 3") && error.contains(said), "{line}: {error}");
        let denied = file.consult().authorize(&psk("x"), LOCAL, AnonymousPolicy::Admit);
        assert_eq!(denied, Err(Denial::NoFile));
    }

    #[test]
    fn a_file_that_makes_no_sense_lets_nobody_in_and_names_the_line() {
        check_mistake("keys = \"SHA256:x\"", "unknown field `keys`");
        check_mistake("key = \"SHA256:x\"", "unknown field `key`");
        check_mistake("tcp = \"10.0.0.1:80\"", "sequence");
        check_mistake("tcp = [\"10.0.0.1\"]", "HOST:PORT");
        check_mistake("tcp = [\"10.0.0.1:80\", \"10.0.0.1/8:80\"]", "behind its prefix");
        check_mistake("udp = [\"127.1:80\"]", "looks like an address");
        check_mistake("unix = [\"/run/../x\"]", "absolute path");
        check_mistake("service = [\"a b\"]", "is not a name");
        check_mistake("listen = [\"host:80\"]", "interface");
        check_mistake("messages = 1", "boolean");
        check_mistake("expires = \"tomorrow\"", "expires");
        check_mistake("expires = \"2027-02-22\"", "expires");
        check_mistake("expires = 2027-02-22", "with its time and zone");
        check_mistake("expires = 2027-02-22T10:00:00", "with its time and zone");
        check_mistake("expires = 10:00:00", "with its time and zone");
        check_mistake("expires = 2027", "moment");
        check_mistake("from = [\"10.0.0.1/8\"]", "behind its prefix");
        check_mistake("max_channels = 0", "zero");
        check_mistake("max_channels = -1", "integer");
        check_mistake("max_rate = \"0\"", "10MiB");
        check_mistake("revoked = \"no\"", "boolean");
        check_mistake("[[clients]]", "unknown field `clients`");
    }

    #[test]
    fn a_file_that_makes_no_sense_for_a_while_changes_nothing_for_who_is_in() {
        let (_folder, file) = file();
        allow(&file, ALICE, "alice", usual()).unwrap();
        let again = || {
            file.invalidate();
            file.consult().reauthorize(&key(ALICE), REMOTE, AnonymousPolicy::Refuse)
        };
        assert_eq!(again().unwrap().unwrap().name, "alice");
        let good = std::fs::read(file.path()).unwrap();
        std::fs::write(file.path(), "[[client]\n").unwrap();
        assert_eq!(again(), None);
        std::fs::write(file.path(), good).unwrap();
        assert_eq!(again().unwrap().unwrap().name, "alice");
        file.edit(|access| access.revoke("alice")).unwrap();
        assert_eq!(again(), Some(Err(Denial::NotEnrolled)));
    }

    /// A server that has just started and has never read the file refuses the key, too.
    #[test]
    fn a_file_that_is_gone_lets_no_revoked_key_in_again() {
        let (folder, file) = file();
        let another = || AccessFile::new(Home::resolve(Some(folder.path().into())).unwrap());
        let psk = psk("lost");
        let may = |file: &AccessFile| file.consult().authorize(&psk, LOCAL, AnonymousPolicy::Admit).is_ok();
        assert!(may(&file), "it is the server's own key, and nobody has said anything");
        file.edit(|access| access.note_psk("lost")).unwrap();
        file.edit(|access| access.revoke("lost")).unwrap();
        assert!(!may(&file) && !may(&another()));
        std::fs::rename(file.path(), folder.path().join("elsewhere")).unwrap();
        for file in [&file, &another()] {
            file.invalidate();
            assert!(!may(file));
            assert!(!file.consult().admits_anonymous(LOCAL, AnonymousPolicy::Admit));
            assert!(matches!(file.read(), Err(Error::AccessFileGone { .. })));
            // Neither is the list started anew as if it had been empty.
            let noted = file.edit(|access| access.note_psk("lost"));
            assert!(matches!(noted, Err(Error::AccessFileGone { .. })));
        }
        std::os::unix::fs::symlink("/no/such/place", file.path()).unwrap();
        assert!(!may(&file) && another().edit(|_| Ok(())).is_err());
        std::fs::rename(folder.path().join("elsewhere"), file.path()).unwrap();
        assert!(!may(&file));
        allow(&file, ALICE, "alice", usual()).unwrap();
    }

    #[test]
    fn a_file_that_was_written_by_hand_is_remembered_too() {
        let (folder, file) = file_that_says("[[psk]]\nname = \"lost\"\nrevoked = true\n");
        let may =
            |file: &AccessFile| file.consult().authorize(&psk("lost"), LOCAL, AnonymousPolicy::Admit).is_ok();
        assert!(!may(&file));
        std::fs::remove_file(file.path()).unwrap();
        assert!(!may(&AccessFile::new(Home::resolve(Some(folder.path().into())).unwrap())));
    }

    #[test]
    fn a_file_that_is_gone_for_a_moment_cuts_nobody_off_and_one_that_stays_away_does() {
        let (_folder, file) = file();
        allow(&file, ALICE, "alice", usual()).unwrap();
        let again = || {
            file.invalidate();
            file.consult().reauthorize(&key(ALICE), REMOTE, AnonymousPolicy::Refuse)
        };
        assert!(again().unwrap().is_ok());
        let good = std::fs::read(file.path()).unwrap();
        std::fs::remove_file(file.path()).unwrap();
        assert_eq!(again(), None);
        private_file::replace(file.path(), &good).unwrap();
        assert!(again().unwrap().is_ok());
        std::fs::remove_file(file.path()).unwrap();
        let gone = std::time::Instant::now();
        while again().is_none() {
            assert!(gone.elapsed() < std::time::Duration::from_secs(30), "it stays in for ever");
            std::thread::yield_now();
        }
        assert_eq!(again(), Some(Err(Denial::NoFile)));
    }

    #[test]
    fn one_name_and_one_key_stand_in_a_file_once() {
        let client = |name: &str, key| format!("[[client]]\nname = \"{name}\"\nkey = \"{key}\"\n");
        for text in [
            client("a", ALICE) + &client("a", BOB),
            client("a", ALICE) + &client("b", ALICE),
            client("a", ALICE) + "[[psk]]\nname = \"a\"\n",
            "[[psk]]\nname = \"a\"\n".repeat(2),
            "[[psk]]\nname = \"\\u001b[2J\"\n".to_owned(),
            "[[client]]\nname = \"a\"\n".to_owned(),
        ] {
            let (_folder, file) = file_that_says(&text);
            assert!(matches!(file.read(), Err(Error::AccessFile { .. })), "{text}");
        }
    }

    #[test]
    fn names_belong_to_one_client_and_a_revoked_psk_keeps_its_own() {
        let (_folder, file) = file();
        allow(&file, ALICE, "alice", usual()).unwrap();
        file.edit(|access| access.note_psk("laptop")).unwrap();
        file.edit(|access| access.note_psk("laptop")).unwrap();
        for (taken, result) in [
            ("alice", allow(&file, BOB, "alice", usual())),
            ("alice", file.edit(|access| access.note_psk("alice"))),
            ("laptop", allow(&file, BOB, "laptop", usual())),
        ] {
            assert!(matches!(result, Err(Error::NameTaken { .. })), "{taken}");
        }
        file.edit(|access| access.revoke("laptop")).unwrap();
        assert!(matches!(file.edit(|access| access.note_psk("laptop")), Err(Error::NameTaken { .. })));
        assert!(matches!(file.edit(|access| access.revoke("psk:laptop")), Err(Error::UnknownClient { .. })));
        let laptop = file.consult().authorize(&psk("laptop"), LOCAL, AnonymousPolicy::Admit);
        assert_eq!(laptop, Err(Denial::Revoked));
        allow(&file, ALICE, "alice2", usual()).unwrap();
        let lines: Vec<String> = file.read().unwrap().unwrap().lines(Timestamp::now()).collect();
        assert_eq!(lines, [format!("alice2\t{ALICE}\t--messages --pipe")]);
    }
}
