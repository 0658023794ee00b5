//! Names of presets, as the file has them.

#[cfg(test)]
use schemars::JsonSchema;
use serde::Deserialize;

/// The name of a preset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(JsonSchema))]
pub(crate) enum PresetName {
    /// PayLater (Keycloak).
    Paylater,
    /// PayU India: payment links and partner API.
    Payu,
    /// Alternative Payments.
    AlternativePayments,
    /// Quidkey.
    Quidkey,
}

impl PresetName {
    /// Every preset.
    pub(crate) const ALL: [Self; 4] = [
        Self::Paylater,
        Self::Payu,
        Self::AlternativePayments,
        Self::Quidkey,
    ];

    /// As the provider writes its name.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Paylater => "PayLater",
            Self::Payu => "PayU",
            Self::AlternativePayments => "Alternative Payments",
            Self::Quidkey => "Quidkey",
        }
    }
}
