//! The shape of a tick, field by field.

use schemas::{Reason, Rejection, Tick};
use validator::{Validate, ValidationError, ValidationErrors};

/// Checks the shape, and names every field at fault, in alphabetical order.
pub(super) fn check(tick: &Tick) -> Result<(), Rejection> {
    tick.validate().map_err(|faults| invalid(&faults))
}

fn invalid(faults: &ValidationErrors) -> Rejection {
    let mut fields: Vec<String> = faults
        .field_errors()
        .into_iter()
        .flat_map(|(field, faults)| faults.iter().map(move |fault| describe(&field, fault)))
        .collect();
    fields.sort_unstable();
    Rejection::validate(Reason::InvalidField, fields.join("; "))
}

fn describe(field: &str, fault: &ValidationError) -> String {
    if let Some(message) = &fault.message {
        return format!("{field}: {message}");
    }
    let param = |name: &str| fault.params.get(name).map(ToString::to_string).unwrap_or_default();
    format!(
        "{field}: {} must be {} to {} characters long",
        param("value"),
        param("min"),
        param("max")
    )
}
