//! Errors in documents, with SWML's error codes.

use std::fmt;

use serde::{Deserialize, Serialize};

/// SWML's error codes, without the common prefix `relay_script_`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Code {
    ParseError,
    VersionInvalid,
    SectionsMissing,
    MainSectionMissing,
    SectionCodeMissing,
    SectionParameterUndefined,
    ElementUndefined,
    ElementWrongType,
    MethodMissingName,
    MethodUndefined,
    MethodParameterMissing,
    MethodParameterInvalidValue,
    MethodParameterUndefined,
    MethodNoMatchingCondition,
    MethodExecuteFailed,
    JsEvalError,
    NestedTooDeep,
    TooManyTransfers,
    /// The script does more work than its budget allows. SignalWire has no code for this error.
    TooMuchWork,
    InternalError,
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("relay_script_")?;
        f.write_str(match self {
            Self::ParseError => "parse_error",
            Self::VersionInvalid => "version_invalid",
            Self::SectionsMissing => "sections_missing",
            Self::MainSectionMissing => "main_section_missing",
            Self::SectionCodeMissing => "section_code_missing",
            Self::SectionParameterUndefined => "section_parameter_undefined",
            Self::ElementUndefined => "element_undefined",
            Self::ElementWrongType => "element_wrong_type",
            Self::MethodMissingName => "method_missing_name",
            Self::MethodUndefined => "method_undefined",
            Self::MethodParameterMissing => "method_parameter_missing",
            Self::MethodParameterInvalidValue => "method_parameter_invalid_value",
            Self::MethodParameterUndefined => "method_parameter_undefined",
            Self::MethodNoMatchingCondition => "method_no_matching_condition",
            Self::MethodExecuteFailed => "method_execute_failed",
            Self::JsEvalError => "js_eval_error",
            Self::NestedTooDeep => "nested_too_deep",
            Self::TooManyTransfers => "too_many_transfers",
            Self::TooMuchWork | Self::InternalError => "internal_error",
        })
    }
}

/// Maximum length of the detail of an error, in octets.
const LONGEST_DETAIL: usize = 400;

/// An error, with its position in the document.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Fault {
    pub(crate) code: Code,
    pub(crate) detail: String,
}

impl Fault {
    /// An error. The detail may contain texts of the application, so a long detail is cut.
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        let mut detail = detail.into();
        if detail.len() > LONGEST_DETAIL {
            detail.truncate(detail.floor_char_boundary(LONGEST_DETAIL));
            detail.shrink_to_fit();
            detail.push('…');
        }
        Self { code, detail }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.detail)
    }
}
