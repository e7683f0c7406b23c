//! `client doctor`: finds out step by step, from both ends, why something does not work, and says what to do about it.
//!
//! ```text
//! key, name, connection, protocol, server key    from here
//! admission, clock                               by what the server says of this client
//! -L, -R, -D, -W, --files                        from here, and by what the server says of the target
//! ```
//!
//! Nothing is changed: no key is trusted, nothing remembered, no lease taken over, no message sent.

mod admission;
mod contact;
mod forwards;
mod owner;
mod protocol;
mod report;
mod server_key;

use cli_support::home::Home;
use cli_support::report::Report as _;

use self::admission::Patient;
use self::report::Report;
use crate::cli::Doctor;
use crate::connect::Credentials;
use crate::error::Error;
use crate::server::Server;

/// Looks at everything, and prints what it has found.
///
/// # Errors
/// [`Error::Unwell`] where something has failed; those of options that cannot be used.
pub async fn doctor(home: &Home, options: &Doctor) -> Result<(), Error> {
    let server = Server::from_options(&options.address, &options.trust, home)?;
    let mut report = Report::new(server.to_string(), options.json);
    let admitted = look(home, &server, &mut report).await?;
    forwards::look(admitted.as_ref(), options, &mut report).await?;
    report.finish()
}

/// Looks from the key of this client up to its admission. `None` where the client does not get in.
async fn look<'a>(
    home: &Home,
    server: &'a Server,
    report: &mut Report,
) -> Result<Option<Patient<'a>>, Error> {
    let credentials = match Credentials::read(home.clone()) {
        Ok(credentials) => Some(credentials),
        Err(error) => {
            report.failed("key", error.to_string(), error.hint(), error.exit())?;
            None
        }
    };
    if let Some(credentials) = &credentials {
        let text = match (&server.psk, credentials.identity()) {
            (Some(psk), _) => format!("this client uses the pre-shared key psk:{}", psk.id()),
            (None, Some(key)) => format!("this client has the key {}", key.public().id()),
            (None, None) => "this client has no key, and is anonymous".into(),
        };
        report.ok("key", text)?;
    }
    let Some((socket, address)) = contact::reach(server, report).await? else {
        return report
            .skip(&["protocol", "server key", "admission", "clock"], "nobody was reached")
            .map(|()| None);
    };
    let Some(spoken) = protocol::identify(server, address, socket, report).await? else {
        return report.skip(&["server key", "admission", "clock"], "no server was reached").map(|()| None);
    };
    let Some(expected) = server_key::judge(home, server, address, spoken, report)? else {
        let why = "nothing is said to a server whose key is not trusted";
        return report.skip(&["admission", "clock"], why).map(|()| None);
    };
    let Some(credentials) = credentials else {
        return report.skip(&["admission", "clock"], "the key of this client cannot be used").map(|()| None);
    };
    let patient = Patient::new(server, address, credentials, expected);
    Ok(patient.enter(report).await?.then_some(patient))
}
