import pytest

from llm_rollout.coldstart.secrets import without_keys


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("api_key='sk-proj-abcdefghijklmnop1234'", "api_key='***'"),
        ("AWS_SECRET_ACCESS_KEY=abcdefgh12345678", "AWS_SECRET_ACCESS_KEY=***"),
        ("used AKIAABCDEFGHIJKLMNOP here", "used *** here"),
        ("Authorization: Bearer abcdefghijkl", "Authorization: Bearer ***"),
        ("hf_abcdefghijklmnopqrstuvwxyz0123456789", "hf_***"),
        ("max_tokens: 16384, tokenizer='/models/a-long-name'", "max_tokens: 16384, tokenizer='/models/a-long-name'"),
    ],
)
def test_keys_go_and_everything_else_stays(text, kept):
    assert without_keys(text) == kept
