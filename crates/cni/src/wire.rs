//! Plugin ↔ agent: one connection carries one request and one response.
//!
//! The plugin writes a JSON object and closes its half; the agent writes a JSON object and closes.
//! The end of the stream frames the message, so a message that was cut short never parses as a
//! whole one. Every command is idempotent, which is why a plugin may send the same request again
//! when the agent went away before it answered.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::call::Call;
use crate::config::NetworkConfig;
use crate::error::{Code, Error};

/// The version of this exchange. It changes when an older side would misread a newer one.
pub const PROTOCOL: u32 = 1;

/// Largest message: a GC that lists 10,000 attachments is about 1 MiB.
pub const MESSAGE_MAX: u64 = 8 << 20;

/// What the plugin sends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// [`PROTOCOL`] of the sender.
    pub protocol: u32,
    /// The environment.
    pub call: Call,
    /// Standard input.
    pub config: NetworkConfig,
}

/// What the agent answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// Success: print the value, or nothing where the command has no result.
    Success(Option<Value>),
    /// Failure.
    Failure(Error),
}

impl Request {
    /// A request of this version of the exchange.
    pub fn new(call: Call, config: NetworkConfig) -> Self {
        Request {
            protocol: PROTOCOL,
            call,
            config,
        }
    }

    /// Reads a request, refusing other versions of the exchange before looking at the rest.
    pub fn parse(bytes: &[u8]) -> Result<Request, Error> {
        #[derive(Deserialize)]
        struct Envelope {
            protocol: u32,
        }
        let decode = |error: serde_json::Error| {
            Error::new(Code::Decode, format!("the request can't be read: {error}"))
        };
        let envelope: Envelope = serde_json::from_slice(bytes).map_err(decode)?;
        if envelope.protocol != PROTOCOL {
            return Err(Error::new(
                Code::Decode,
                format!(
                    "the plugin ripstop-cni speaks version {} of the agent's protocol, the agent {PROTOCOL}: \
                     install the plugin that belongs to the agent",
                    envelope.protocol
                ),
            ));
        }
        serde_json::from_slice(bytes).map_err(decode)
    }
}

impl From<Result<Option<Value>, Error>> for Response {
    fn from(outcome: Result<Option<Value>, Error>) -> Self {
        match outcome {
            Ok(value) => Response::Success(value),
            Err(error) => Response::Failure(error),
        }
    }
}

impl From<Response> for Result<Option<Value>, Error> {
    fn from(response: Response) -> Self {
        match response {
            Response::Success(value) => Ok(value),
            Response::Failure(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_plugin_of_another_age_is_told_so() {
        let error = Request::parse(br#"{"protocol": 2, "shape": "new"}"#).expect_err("newer");
        assert!(error.msg.contains("speaks version 2"), "{error}");
    }

    #[test]
    fn success_without_a_result_differs_from_a_cut_message() {
        let text = serde_json::to_string(&Response::Success(None)).expect("JSON");
        assert_eq!(text, r#"{"success":null}"#);
        for end in 0..text.len() {
            assert!(serde_json::from_str::<Response>(&text[..end]).is_err());
        }
    }

    #[test]
    fn requests_survive_the_wire() {
        let config = NetworkConfig::parse(
            json!({"cniVersion": "1.0.0", "name": "n", "type": "t", "x": 1})
                .to_string()
                .as_bytes(),
        );
        let call = Call::read(|name| (name == "CNI_COMMAND").then(|| "STATUS".to_owned()));
        let request = Request::new(call.expect("valid"), config.expect("valid"));
        let bytes = serde_json::to_vec(&request).expect("JSON");
        assert_eq!(Request::parse(&bytes), Ok(request));
    }
}
