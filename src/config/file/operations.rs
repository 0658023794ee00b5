//! How is it written which scope an operation needs, where a provider's own pages name several?

#[cfg(test)]
use schemars::JsonSchema;
use serde::Deserialize;

/// Scopes of the operations for which PayU's own pages name several; the newest page's where a key is missing.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(JsonSchema))]
pub(in crate::config) struct OperationScopes {
    /// `…/kyc_document/**` of the partner API. Default `refer_merchant`.
    pub(in crate::config) kyc_documents: Option<KycScope>,
    /// `…/add_bank_detail` of the partner API. Default `create_bank_details`.
    pub(in crate::config) bank_details: Option<BankScope>,
    /// `DELETE /payment-links/*`. Default `update_payment_links`.
    pub(in crate::config) cancel_payment_link: Option<CancelScope>,
}

/// An operation for which several scopes may be right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) enum Operation {
    KycDocuments,
    BankDetails,
    CancelPaymentLink,
}

/// A scope for a merchant's documents.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(JsonSchema))]
pub(in crate::config) enum KycScope {
    /// As the guide in steps has it.
    ReferMerchant,
    /// As the page on tokens has it.
    ClientManageKycDetails,
}

/// A scope for a merchant's bank account.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(JsonSchema))]
pub(in crate::config) enum BankScope {
    /// As the page on tokens has it.
    CreateBankDetails,
    /// As the guide in steps has it, for bank details in an update.
    ReferMerchant,
}

/// A scope for the end of a payment link.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(JsonSchema))]
pub(in crate::config) enum CancelScope {
    /// As the table of scopes has it.
    UpdatePaymentLinks,
    /// As one note on the operation's page has it.
    CreatePaymentLinks,
}

impl OperationScopes {
    /// What the operator chose.
    pub(in crate::config) fn of(&self, operation: Operation) -> Option<&'static str> {
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
