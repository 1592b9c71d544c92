"""Takes what names a person or opens a door out of captured prompts, before they are kept as a task set.

By patterns alone: names, addresses and whatever else has no shape of its own stay in. Read the result before it leaves
the machine where it was captured.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Callable

_SECRET = re.compile(
    r"""
    (?i:\bBearer\s+)[\w.~+/-]{8,}=*
    | \b(?:sk|pk|rk)[-_](?:[A-Za-z]+[-_])*[A-Za-z0-9_-]{16,}    # OpenAI, Anthropic, Stripe
    | \bhf_[A-Za-z0-9]{16,}                                     # Hugging Face
    | \bgh[pousr]_[A-Za-z0-9]{20,} | \bgithub_pat_\w{20,}       # GitHub
    | \bglpat-[\w-]{16,}                                        # GitLab
    | \bxox[abprs]-[\w-]{10,}                                   # Slack
    | \b(?:AKIA|ASIA)[A-Z0-9]{16}\b                             # AWS
    | \bAIza[\w-]{30,}                                          # Google
    | \beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*                         # JSON web tokens
    | -----BEGIN\ [A-Z ]*PRIVATE\ KEY-----[\s\S]*?-----END\ [A-Z ]*PRIVATE\ KEY-----
    """,
    re.VERBOSE,
)
_NAMED_SECRET = re.compile(
    r"""(?ix) \b ((?:api[_-]?key|access[_-]?token|auth[_-]?token|secret|password|passwd|token)["']?\s*[:=]\s*["']?)
    ([^\s"',;]{6,})"""
)
_URL_LOGIN = re.compile(r"(?<=://)[^\s/:@]+:[^\s/@]+(?=@)")
_EMAIL = re.compile(r"[\w.!#$%&'*+/=?^`{|}~-]+@[A-Za-z0-9](?:[\w-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9-]+)+")
_CARD = re.compile(r"(?<![\w.])\d(?:[ -]?\d){12,18}(?![\w]|\.\d)")
_IPV4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w]|\.\d)")
_IPV6 = re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![\w:])")
_PHONE = re.compile(r"(?<![\w.])(?:\+|00)?\(?\d{1,4}\)?(?:[ ./-]?\(?\d{2,4}\)?){2,5}(?![\w]|[.,]\d)")
_PHONE_DIGITS = range(9, 16)
"""Fewer are a number of something else; more than 15 are no telephone number (ITU-T E.164)."""


def redact(text: str) -> tuple[str, Counter[str]]:
    """The text with a word in brackets in place of each find, and how many there were of each kind."""
    found: Counter[str] = Counter()

    def mark(kind: str, sure: Callable[[str], bool] = lambda _: True) -> Callable[[re.Match[str]], str]:
        def replaced(match: re.Match[str]) -> str:
            if not sure(match[0]):
                return match[0]
            found[kind] += 1
            return f"[{kind}]"

        return replaced

    def named(match: re.Match[str]) -> str:
        if match[2].startswith("["):
            return match[0]
        found["secret"] += 1
        return f"{match[1]}[secret]"

    text = _SECRET.sub(mark("secret"), text)
    text = _NAMED_SECRET.sub(named, text)
    text = _URL_LOGIN.sub(mark("secret"), text)
    text = _EMAIL.sub(mark("email"), text)
    text = _CARD.sub(mark("card", luhn), text)
    text = _IPV4.sub(mark("ip", _is_address), text)
    text = _IPV6.sub(mark("ip", _is_address), text)
    return _PHONE.sub(mark("phone", _is_phone), text), found


def luhn(text: str) -> bool:
    """Whether the digits pass the check of ISO/IEC 7812 that card numbers pass and 9 of 10 other numbers do not."""
    digits = [int(each) for each in text if each.isdigit()][::-1]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[1::2]]
    return (sum(digits[::2]) + sum(doubled)) % 10 == 0


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return text != "::"


def _is_phone(text: str) -> bool:
    """So many digits with a sign of their own: plain digits are as likely an amount or an order's number."""
    digits = sum(each.isdigit() for each in text)
    is_fraction = re.fullmatch(r"\d+\.\d+", text)
    return (
        digits in _PHONE_DIGITS and not is_fraction and (text.startswith(("+", "00", "0", "(")) or not text.isdigit())
    )
