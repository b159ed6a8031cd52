//! Names: of services, users and files.

use std::path::PathBuf;

use serde_json::{Value as Json, json};

use super::{Form, Scalar};

/// What logs and metrics call a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name(pub(crate) String);

impl Scalar for Name {
    const EXPECTED: &'static str = "a name such as \"ssh\"";

    fn parse(text: &str) -> Result<Self, String> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
        if text.is_empty() || text.len() > 64 || !text.bytes().all(fits) {
            return Err("a name has 1 to 64 letters, digits, `-`, `_`, `.` and `:`".to_owned());
        }
        Ok(Self(text.to_owned()))
    }

    fn text(&self) -> String {
        self.0.clone()
    }

    fn schema() -> Json {
        json!({ "type": "string", "pattern": "^[A-Za-z0-9_.:-]{1,64}$" })
    }
}

/// Whom workers run as, as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UserName(pub(crate) String);

impl Scalar for UserName {
    const FORM: Form = Form::NumberOrText;
    const EXPECTED: &'static str = "a user such as \"mmproxy\", \"990:990\" or \"keep\"";

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.contains('\0') {
            Err("this names no user".to_owned())
        } else {
            Ok(Self(text.to_owned()))
        }
    }

    fn text(&self) -> String {
        self.0.clone()
    }
}

impl Scalar for PathBuf {
    const EXPECTED: &'static str = "the path of a file";

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.contains('\0') {
            return Err("this names no file".to_owned());
        }
        Ok(text.into())
    }

    fn text(&self) -> String {
        self.to_string_lossy().into_owned()
    }
}
