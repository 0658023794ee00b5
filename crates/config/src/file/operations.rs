//! Scopes of operations as they are written in the file, where a provider's own pages name several.

#[cfg(test)]
use schemars::JsonSchema;
use serde::Deserialize;

/// Scopes of the operations for which PayU's own pages name several; the newest page's where a key is missing.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(JsonSchema))]
pub(crate) struct OperationScopes {
    /// The scope for `…/kyc_document/**` of the partner API.
    #[cfg_attr(test, schemars(extend("default" = KycScope::default())))]
    pub(crate) kyc_documents: Option<KycScope>,
    /// The scope for `…/add_bank_detail` of the partner API.
    #[cfg_attr(test, schemars(extend("default" = BankScope::default())))]
    pub(crate) bank_details: Option<BankScope>,
    /// The scope for `DELETE /payment-links/*`.
    #[cfg_attr(test, schemars(extend("default" = CancelScope::default())))]
    pub(crate) cancel_payment_link: Option<CancelScope>,
}

/// An operation for which several scopes may be right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    KycDocuments,
    BankDetails,
    CancelPaymentLink,
}

/// A scope for a merchant's documents.
#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(JsonSchema, serde::Serialize))]
pub(crate) enum KycScope {
    /// As the guide in steps has it.
    #[default]
    ReferMerchant,
    /// As the page on tokens has it.
    ClientManageKycDetails,
}

/// A scope for a merchant's bank account.
#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(JsonSchema, serde::Serialize))]
pub(crate) enum BankScope {
    /// As the page on tokens has it.
    #[default]
    CreateBankDetails,
    /// As the guide in steps has it, for bank details in an update.
    ReferMerchant,
}

/// A scope for the end of a payment link.
#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(JsonSchema, serde::Serialize))]
pub(crate) enum CancelScope {
    /// As the table of scopes has it.
    #[default]
    UpdatePaymentLinks,
    /// As one note on the operation's page has it.
    CreatePaymentLinks,
}

impl OperationScopes {
    /// What the operator chose.
    pub(crate) fn of(&self, operation: Operation) -> Option<&'static str> {
        match operation {
            Operation::KycDocuments => self.kyc_documents.map(|scope| match scope {
                KycScope::ReferMerchant => "refer_merchant",
                KycScope::ClientManageKycDetails => "client_manage_kyc_details",
            }),
            Operation::BankDetails => self.bank_details.map(|scope| match scope {
                BankScope::CreateBankDetails => "create_bank_details",
                BankScope::ReferMerchant => "refer_merchant",
            }),
            Operation::CancelPaymentLink => self.cancel_payment_link.map(|scope| match scope {
                CancelScope::UpdatePaymentLinks => "update_payment_links",
                CancelScope::CreatePaymentLinks => "create_payment_links",
            }),
        }
    }
}
