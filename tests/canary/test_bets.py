from itertools import product
from math import exp

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_rollout.canary import bets
from llm_rollout.canary.error_rate import ErrorRate
from llm_rollout.canary.quality import Quality, sign_test
from llm_rollout.canary.rounds import Counts
from llm_rollout.canary.rules import Rules
from llm_rollout.canary.times import Seen, measure

POTS = st.tuples(*[st.floats(1e-1, 1e3)] * 4)


@given(POTS, st.integers(0, 500))
def test_a_round_bet_is_fair_when_both_signs_are_as_likely(pot, difference):
    ends = [bets.worth(bets.play_round(pot, sign * difference)) for sign in (1, -1)]

    assert sum(ends) / 2 == pytest.approx(bets.worth(pot))
    assert max(ends) <= 1.9 * bets.worth(pot) * (1 + 1e-9)


@given(POTS, st.floats(0.001, 0.2), st.floats(0, 0.2))
def test_the_bet_against_the_margin_is_not_in_the_favour_of_a_candidate_at_the_margin(pot, margin, better):
    worse = min(margin + better, 1 - better)
    chances = {(1, 0, 0): worse, (0, 1, 0): better, (0, 0, 1): 1 - worse - better}
    mean = sum(chance * bets.worth(bets.against_margin(pot, margin, *kind)) for kind, chance in chances.items())

    assert mean <= bets.worth(pot) * (1 + 1e-9)


def test_a_pot_that_lost_recovers_when_the_world_changes():
    pot = bets.NEW
    for difference in [-50] * 3 + [50] * 18:
        pot = bets.play_round(pot, difference)

    assert bets.worth(pot) > 20


def test_wealth_stays_a_number_however_long_it_goes_on():
    pot = bets.NEW
    for _ in range(2000):
        pot = bets.against_margin(pot, 0.01, 50, 0, 0)
    assert bets.worth(pot) > 0
    for _ in range(4000):
        pot = bets.against_margin(pot, 0.01, 0, 0, 50)
    assert bets.worth(pot) < 1e13


def test_the_sign_test_counts_coin_tosses():
    for losses, wins in product(range(5), range(5)):
        tosses = losses + wins
        all_ways = list(product((0, 1), repeat=tosses))
        assert sign_test(losses, wins) == sum(sum(way) >= losses for way in all_ways) / len(all_ways)


def test_the_exact_test_spends_no_more_than_its_share():
    rules = Rules(tasks=100)
    quality = Quality(rules)
    for lost, won in [(100, 0), (10, 0), (8, 0), (30, 10)]:
        totals = Counts(pairs=100, graded=100, only_candidate_wrong=lost, only_stable_wrong=won)
        paid = quality._whole_set(totals)
        assert paid == 0 or paid * sign_test(lost, won) <= 1


def test_errors_on_both_sides_beyond_any_limit_still_count():
    errors, pots = ErrorRate(Rules()), ErrorRate(Rules()).new()
    for _ in range(30):
        counts = Counts(pairs=50, candidate_failed=5, stable_failed=5)
        pots = errors.after(pots, Seen(counts, measure([]), [], healthy=True))

    assert bets.worth(pots["absolute"]) > exp(1)
