"""A whole day with one provider, by a client that knows nothing of tokens: from the first call to reconciliation.

    day.py PROXY_URL PROVIDER REVOKE_URL CA_FILE

In the middle the provider revokes every token (REVOKE_URL, straight to it, trusting CA_FILE). No call may notice.
Prints the number of calls; ends with an error where an answer is not the expected one.
"""

import sys

import requests

proxy, provider, revoke_url, authority = sys.argv[1:]

session = requests.Session()
# Neither NO_PROXY nor ~/.netrc may decide where these requests go and as whom.
session.trust_env = False
session.proxies = {"http": proxy}
calls = 0


def call(method, url, status=200, **more):
    """The answer's JSON; its status has to be the expected one."""
    global calls
    calls += 1
    answer = session.request(method, "http://" + url, timeout=60, **more)
    shown = f"{method} {url}: {answer.status_code} {answer.text}"
    assert answer.status_code == status, shown
    assert "proxy-status" not in answer.headers, shown
    return answer.json() if answer.content else None


def revoke():
    direct = requests.Session()
    direct.trust_env = False
    answer = direct.post(revoke_url, verify=authority, timeout=60)
    assert answer.status_code == 200 and answer.json()["revoked"] > 0, answer.text


def paylater():
    base = "connect.uat.paylaterapp.com/api/paylater/merchant-portal"
    for version, key, prefix in (("/v2", "order_id", "a"), ("", "orderId", "b")):
        checkout = f"{base}{version}/web-checkout"
        for order, amount in ((prefix + "1", 100), (prefix + "2", 40)):
            made = call("POST", checkout, json={key: order, "amount": amount})
            assert made["paymentLinkUrl"].endswith(order), made
        again = call("POST", checkout, 400, json={key: prefix + "1", "amount": 100})
        assert again["error"] == "Order ID must be unique", again
        assert call("GET", f"{checkout}/shopper", params={"email": "a@b.example"})["eligible"]
        revoke()
        if version:
            refund = {key: prefix + "1", "amount": 30}
            call("POST", f"{checkout}/refund", json=refund)
            call("POST", f"{checkout}/refund", json={key: prefix + "2"})
        else:
            partial = {"merchantId": "900", "transactionReference": f"PL-{prefix}1"}
            call("POST", f"{checkout}/refund/partial", params=partial, json={"amount": 30})
            # The first version pays back on a GET.
            call("GET", f"{checkout}/refund", params={"merchantId": "900", "orderId": prefix + "2"})
        states = {
            order: call("GET", f"{checkout}/status", params={key: order})
            for order in (prefix + "1", prefix + "2")
        }
        assert states[prefix + "1"]["status"] == "PARTIALLY_REFUNDED", states
        # Each went through once, the one that met a revoked token too.
        assert [state["refunded_amount"] for state in states.values()] == [30, 40], states
        asked = call("POST", f"{base}{version}/request-to-pay", json={"reference": prefix})
        assert asked["status"] == "SENT", asked
        call("POST", f"{base}{version}/request-to-pay", 409, json={"reference": prefix})
    rows = call("GET", f"{base}/v2/web-checkout/transactions")["transactions"]
    ours = [row for row in rows if row["order_id"][0] in "ab"]
    assert sum(row["amount"] - row["refunded_amount"] for row in ours) == 140, ours
    one = call("GET", f"{base}/web-checkout/transactions/b1")["transactions"]
    assert one[0]["refunded_amount"] == 30, one


def payu():
    partner, links, payouts = "uat-partner.payu.in", "uatoneapi.payu.in/payment-links", "uatoneapi.payu.in/payout"
    # A merchant joins.
    parts = {"merchant[display_name]": (None, "Corner shop"), "merchant[email]": (None, "a@b.example")}
    merchant = call("POST", f"{partner}/api/v3/merchants", files=parts)["merchant"]
    mid = f"{partner}/api/v1/merchants/{merchant['mid']}"
    uuid = merchant["uuid"]
    assert call("GET", mid)["merchant"]["display_name"] == "Corner shop"
    call("PUT", f"{mid}/update", json={"display_name": "Corner shop 2"})
    document = {"document": ("pan.pdf", b"%PDF", "application/pdf")}
    call("POST", f"{partner}/api/v3/merchants/{uuid}/kyc_document", files=document)
    call("GET", f"{mid}/generate_merged_document_for_esign")
    call("POST", f"{mid}/send_signatory_otp/1")
    call("POST", f"{mid}/esign_merged_document/1", json={"otp": "1"})
    # A person's code yields a token that no client secret does.
    otp = {"otp[identity]": "9000000000", "otp[type]": "SignIn", "otp[scope]": "user_profile create_bank_details"}
    call("POST", f"{partner}/api/v1/otps/send_otp", data=otp)
    call("POST", f"{partner}/api/v1/otps/verify_otp", 422, data={**otp, "otp[code]": "0000"})
    revoke()
    user = call("POST", f"{partner}/api/v1/otps/verify_otp", data={**otp, "otp[code]": "5154"})
    assert user["scope"] == "user_profile create_bank_details", user
    with_user_token = {"Authorization": f"Bearer {user['access_token']}"}
    detail = {"bank_detail": {"bank_account_number": "1", "ifsc_code": "X", "holder_name": "Y"}}
    bank = f"{partner}/api/v3/merchants/{uuid}/add_bank_detail"
    call("POST", bank, json=detail, headers=with_user_token)
    call("POST", bank, json=detail)
    penny = call("POST", f"{mid}/verify_penny", json={"penny_amount": "1.03"}, headers=with_user_token)
    assert penny["message"] == "Bank verification successful", penny
    call("POST", f"{mid}/verify_penny", json={"penny_amount": "1.03"})
    assert call("GET", mid)["merchant"]["bank_verification_status"] == "Verified"
    call("GET", f"{mid}/credential")
    # It sells.
    for invoice, amount in (("day-1", 70), ("day-2", 30)):
        made = call("POST", links, json={"invoiceNumber": invoice, "subAmount": amount})
        assert (made["status"], made["token_scope"]) == (0, "create_payment_links"), made
    again = call("POST", links, json={"invoiceNumber": "day-1", "subAmount": 70})
    assert (again["status"], again["result"]) == (-1, None), again
    revoke()
    auto = call("POST", links, json={"subAmount": 5})["result"]["invoiceNumber"]
    call("POST", f"{links}/day-1/share", params={"channelList": "SMS"})
    call("PUT", f"{links}/day-2", json={"description": "later"})
    assert call("DELETE", f"{links}/{auto}")["result"]["active"] is False
    # It pays others.
    revoke()
    transfer = [{"merchantRefId": "out-1", "amount": 20}, {"merchantRefId": "out-2", "amount": 1}]
    assert call("POST", f"{payouts}/v2/payment", json=transfer)["status"] == 0
    assert call("POST", f"{payouts}/v2/payment", json=transfer)["code"] == 1103
    assert call("POST", f"{payouts}/payment/cancel", data={"merchantRefId": "out-2"})["status"] == 0
    assert call("POST", f"{payouts}/payment/verifyAccount", data={"accountNumber": "1"})["data"]["accountExists"] == "YES"
    rows = call("POST", f"{payouts}/payment/listTransactions")["data"]["transactionDetails"]
    # The request that met a revoked token went through once.
    assert [row["txnStatus"] for row in rows] == ["SUCCESS", "CANCELLED"], rows
    # It reconciles. Refunds are signed with key and salt, and no business of a token.
    found = call("GET", links, params={"dateFrom": "2026-01-01"})["result"]["paymentLinks"]
    found = {link["invoiceNumber"]: link["totalAmountCollected"] for link in found}
    assert {"day-1", "day-2", auto} <= set(found), found
    for invoice in ("day-1", "day-2"):
        for name in ("txns", "transactions"):
            paid = call("GET", f"{links}/{invoice}/{name}")["result"]["transactions"]
            assert sum(row["amount"] for row in paid) == found[invoice], paid
    call("POST", "uat-onepayuonboarding.payu.in/api/v3/product_accounts", json={"display_name": "Child"})
    call("GET", "uat-onepayuonboarding.payu.in/api/v3/product_accounts")


def alternative_payments():
    base = "public-api.demo.alternativepayments.io"
    customer = call("POST", f"{base}/customers", 201, json={"name": "A customer"})["id"]
    methods = f"{base}/customers/{customer}/payment-methods"
    method = call("POST", f"{methods}/bank", 201, json={"account_number": "000123456789"})["id"]
    assert [row["id"] for row in call("GET", methods)["data"]] == [method]
    bill = {"customer_id": customer, "amount": 300}
    invoice = call("POST", f"{base}/invoices", 201, json=bill)["id"]
    assert call("GET", f"{base}/invoices/{invoice}/payment-link")["url"].endswith(invoice)
    hook = call("POST", f"{base}/webhooks", 201, json={"url": "https://shop.example/hook", "secret_key": "x"})["id"]
    assert "payout.paid" in call("GET", f"{base}/webhooks/events")["data"]
    # Both spellings.
    for path in ("payment/request", "payments/request"):
        asked = call("POST", f"{base}/{path}", 201, json={**bill, "amount": 100})
        assert call("GET", f"{base}/{path}/{asked['id']}")["status"] == "open"
    charge = {**bill, "amount": 50, "payment_method_id": method, "idempotency_key": "charge-1"}
    missing = call("POST", f"{base}/payments", 400, json=bill)
    assert {row["field"] for row in missing["validation_errors"]} == {"payment_method_id", "idempotency_key"}
    revoke()
    first = call("POST", f"{base}/payments", 201, json=charge)["id"]
    # The same key is the same charge.
    assert call("POST", f"{base}/payments", json=charge)["id"] == first
    call("POST", f"{base}/payments", 201, json={**charge, "idempotency_key": "charge-2"})
    for path in ("checkout-auth/init", "v1/checkout-auth/init"):
        call("POST", f"{base}/{path}", 400, json={})
        assert call("POST", f"{base}/{path}", json={"invoice_id": invoice})["token"]
    # It reconciles; no refund is documented, but what is not to be paid any more can go.
    revoke()
    call("DELETE", f"{base}/invoices/{invoice}", 204)
    call("GET", f"{base}/invoices/{invoice}", 404)
    payments = call("GET", f"{base}/payments")["data"]
    assert payments == call("GET", f"{base}/transactions")["data"]
    payout = call("GET", f"{base}/payouts")["data"][0]
    settled = call("GET", f"{base}/payouts/{payout['id']}/transactions")["data"]
    assert sum(row["amount"] for row in settled) == payout["amount"] == 300, settled
    call("DELETE", f"{base}/webhooks/{hook}", 204)
    call("DELETE", f"{base}/customers/{customer}", 204)
    assert call("GET", f"{base}/customers/{customer}")["archived"] is True


def quidkey():
    base = "core-dev.quidkey.com/api/v1"
    key = {"Idempotency-Key": "order-1"}
    first = call("POST", f"{base}/payment-requests", 201, json={"amount": 80}, headers=key)["data"]
    again = call("POST", f"{base}/payment-requests", json={"amount": 80}, headers=key)["data"]
    assert first == again, (first, again)
    revoke()
    call("POST", f"{base}/payment-requests:redirect", 201, json={"amount": 20})
    # The embedded flow.
    token = call("POST", f"{base}/embedded/payment-requests", 201, json={"amount": 50})["data"]["payment_token"]
    changed = call("PATCH", f"{base}/embedded/payment-requests", json={"payment_token": token, "amount": 60})
    assert changed["data"]["amount"] == 60, changed
    call("POST", f"{base}/bank-predictions", json={"country": "PT"})
    begun = call("POST", f"{base}/embedded/payment-initiation", json={"payment_token": token, "bankId": "sandbox-bank"})
    assert call("GET", f"{base}/payments/{token}/status")["data"]["status"] == "completed"
    link = call("POST", f"{base}/payment-links", 201, json={"amount": 40})["data"]["id"]
    assert call("GET", f"{base}/payment-links/{link}")["data"]["amount"] == 40
    call("GET", f"{base}/payment-links/{link}/details")
    call("POST", f"{base}/payment-links/{link}/confirm")
    call("GET", f"{base}/payment-links/pl_0", 404)
    # It pays back.
    merchant = f"{base}/merchants/m-1/transactions"
    paid = begun["data"]["transaction_id"]
    revoke()
    call("POST", f"{merchant}/{paid}/refunds", 201, json={"amount": 15})
    refused = call("POST", f"{merchant}/{paid}/refunds", 422, json={"amount": 46})
    assert refused["success"] is False, refused
    call("POST", f"{base}/refund-session", 201, json={"transaction_id": paid, "amount": 5})
    call("PUT", f"{merchant}/{paid}/status", json={"status": "settled"})
    secrets = [call("POST", f"{base}/webhooks/secret")["data"]["secret"] for _ in range(2)]
    assert secrets[0] != secrets[1]
    # It reconciles, with a read by POST.
    rows = call("POST", merchant, json={"from": "2026-01-01"})["data"]["transactions"]
    assert sum(row["amount"] for row in rows) == 80 + 20 + 60 + 40, rows
    # The refund that met a revoked token went through once.
    assert sum(row["refunded_amount"] for row in rows) == 20, rows


{"paylater": paylater, "payu": payu, "alternative_payments": alternative_payments, "quidkey": quidkey}[provider]()
print(calls)
