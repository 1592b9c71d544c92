import pytest

from llm_rollout.canary.redaction import luhn, redact

SECRETS = (
    "Authorization: Bearer abcdef1234567890",
    "sk-proj-" + "a1" * 12,
    "hf_" + "Ab1" * 8,
    "ghp_" + "a1" * 12,
    "AKIA" + "ABCD1234" * 2,
    "xoxb-1234567890-abc",
    "eyJhbGciOiJI.eyJzdWIiOiIx.c2lnbmF0dXJl",
    "password=hunter22",
    'API_KEY: "0123456789"',
    "postgres://me:geheim@db/x",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----",
)


@pytest.mark.parametrize("text", SECRETS)
def test_a_secret_is_taken_out(text):
    redacted, found = redact(f"look: {text} thanks")

    assert found == {"secret": 1}
    assert "[secret]" in redacted
    assert redacted.startswith("look: ")
    assert redacted.endswith(" thanks")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mail ana.b+x@mail.example.org, now", "mail [email], now"),
        ("from 192.168.1.20 to 10.0.0.1", "from [ip] to [ip]"),
        ("host 2001:db8::1 is up", "host [ip] is up"),
        ("pay with 4111 1111 1111 1111 today", "pay with [card] today"),
        ("card 5500-0000-0000-0004", "card [card]"),
        ("call +49 30 1234567 or 030 1234567", "call [phone] or [phone]"),
        ("call (212) 555-0123", "call [phone]"),
    ],
)
def test_personal_data_is_taken_out(text, expected):
    assert redact(text)[0] == expected


@pytest.mark.parametrize(
    "text",
    [
        "What is 17 + 25?", "version 1.2.3", "on 2026-11-25 at 14:20:11", "order 123456789 of 2024",
        "pi is 3.14159265358979", "std::vector<int>", "the ratio 3:4:5", "it costs 1,250,000.50 euros",
        "a token of thanks", "skip-the-line", "999.1.1.1", "between 1990 and 2020",
    ],
)  # fmt: skip
def test_plain_text_stays(text):
    assert redact(text) == (text, {})


def test_what_is_redacted_stays_as_it_is():
    once = redact("password=hunter22, a@b.org, 10.0.0.1, +49 30 1234567")[0]

    assert redact(once)[0] == once


def test_a_number_with_another_check_digit_is_no_card():
    assert luhn("4111 1111 1111 1111")
    assert not luhn("4111 1111 1111 1112")
