//! Presets: what is known of the four providers out of the box. Tables, one module for each provider, no code paths.
//!
//! A further provider is one more table. Everything but the fields marked *fixed* has a key in `proxy.yaml`
//! that overrides it. Sources are the providers' own documents; where they contradict each other, what
//! is accepted is wide and what is sent is narrow.

mod alternative_payments;
mod paylater;
mod payu;
mod quidkey;
mod table;

pub(super) use crate::file::PresetName;
pub(super) use table::{Endpoints, Preset, PresetHost, PresetRoute};

impl Preset {
    pub(super) fn of(name: PresetName) -> &'static Self {
        match name {
            PresetName::Paylater => &paylater::PRESET,
            PresetName::Payu => &payu::PRESET,
            PresetName::AlternativePayments => &alternative_payments::PRESET,
            PresetName::Quidkey => &quidkey::PRESET,
        }
    }
}
