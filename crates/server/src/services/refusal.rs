//! Why a client does not get the stream that it has asked for: in a word for the client, and with all that is known for the log.

use std::io;

use tunnel::dial;
use wire_protocol::message::{RefusedCode, Target};

use crate::access::Denial;
use crate::log::LogLimits;
use crate::share_mode::ShareMode;

/// Why there is no stream.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// What the client is told.
    code: RefusedCode,
    /// What the system says, which is for the log alone.
    error: Option<io::Error>,
    /// The rule that is missing, which is for the log alone.
    denial: Option<Denial>,
}

impl Refusal {
    /// The address cannot be listened on.
    pub(crate) fn of_listening(error: io::Error) -> Self {
        Self { code: dial::listen_refusal(&error), error: Some(error), denial: None }
    }

    /// A share does not permit what the client may do otherwise.
    pub(crate) fn of_share(mode: ShareMode) -> Self {
        let error = io::Error::other(format!("the share is {mode}"));
        Self { code: RefusedCode::NotAllowed, error: Some(error), denial: None }
    }

    /// Whether it is the system, or the target, that has said no.
    pub(crate) fn is_of_system(&self) -> bool {
        self.error.is_some()
    }

    /// Tells the log, within its limit, and gives what the client is to be told. `peer` and `client` say whose it is.
    pub(crate) fn note(
        self,
        target: &Target,
        peer: &str,
        client: &str,
        log_limits: &LogLimits,
    ) -> RefusedCode {
        let Self { code, error, denial } = self;
        if log_limits.stream_refused.admits() {
            // Texts, since the log has quotes around those.
            let (target, reason) = (target.to_string(), code.to_string());
            let (error, denied) =
                (error.map(|error| error.to_string()), denial.map(|denial| denial.to_string()));
            tracing::info!(peer, client, target, reason, error, denied, "stream refused");
        }
        code
    }
}

/// The target cannot be reached.
impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self { code: dial::refusal(&error), error: Some(error), denial: None }
    }
}

impl From<RefusedCode> for Refusal {
    fn from(code: RefusedCode) -> Self {
        Self { code, error: None, denial: None }
    }
}

impl From<Denial> for Refusal {
    fn from(denial: Denial) -> Self {
        Self { denial: Some(denial), ..denial.refused_code().into() }
    }
}
