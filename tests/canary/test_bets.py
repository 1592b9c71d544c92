from itertools import product
from math import comb, exp, prod, sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_rollout.canary import bets
from llm_rollout.canary.error_rate import ErrorRate
from llm_rollout.canary.quality import Quality, sign_test
from llm_rollout.canary.rounds import Counts
from llm_rollout.canary.rules import Rules
from llm_rollout.canary.times import Seen, measure, normal_score

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
    ends = {kind: bets.worth(bets.against_margin(pot, margin, bets.Net(*kind), bets.STAKES)) for kind in chances}
    mean = sum(chance * ends[kind] for kind, chance in chances.items())

    assert mean <= bets.worth(pot) * (1 + 1e-9)


def test_a_pot_that_lost_recovers_when_the_world_changes():
    pot = bets.NEW
    for difference in [-50] * 3 + [50] * 18:
        pot = bets.play_round(pot, difference)

    assert bets.worth(pot) > 20


def test_wealth_stays_a_number_however_long_it_goes_on():
    pot = bets.NEW
    for _ in range(2000):
        pot = bets.against_margin(pot, 0.01, bets.Net(50, 0, 0), bets.STAKES)
    assert bets.worth(pot) > 0
    for _ in range(4000):
        pot = bets.against_margin(pot, 0.01, bets.Net(0, 0, 50), bets.STAKES)
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
        pots = errors.after(pots, Seen(counts, measure([]), measure([]), healthy=True))

    assert bets.worth(pots["absolute"]) > exp(1)


def failed(pots, candidate, stable):
    """The pots on errors after a round of 50 pairs in which so many requests failed."""
    both = min(candidate, stable)
    counts = Counts(50, candidate, stable, candidate - both, stable - both)
    return ErrorRate(Rules()).after(pots, Seen(counts, measure([]), measure([]), healthy=stable <= 5))


def test_a_burst_on_stable_leaves_the_pot_of_ordinary_rounds_as_it_was():
    before = ErrorRate(Rules()).new()
    after = failed(before, 0, 25)

    assert after["ordinary"] == before["ordinary"]
    assert bets.worth(after["relative"]) < 0.2


@given(st.integers(0, 50), st.integers(0, 50))
def test_bets_on_errors_are_fair_when_it_may_have_been_either_side(one, other):
    ends = [failed(ErrorRate(Rules()).new(), *both) for both in ((one, other), (other, one))]

    for kind in ("ordinary", "relative"):
        assert sum(bets.worth(pots[kind]) for pots in ends) / 2 == pytest.approx(1)


def test_the_absolute_limit_is_not_in_the_disfavour_of_a_candidate_at_the_limit():
    limit, before = Rules().absolute_error_limit, ErrorRate(Rules()).new()
    chances = [comb(50, bad) * limit**bad * (1 - limit) ** (50 - bad) for bad in range(51)]
    ends = [bets.worth(failed(before, bad, 0)["absolute"]) for bad in range(51)]

    assert sum(map(prod, zip(chances, ends, strict=True))) <= 1
    assert max(ends) <= 5


def played(scores):
    pots = bets.Staggered()
    for score in scores:
        pots = bets.play_score(pots, score)
    return pots


def wealth_by_pace(pots):
    return [sum(map(bets.worth, pace)) / len(pace) for pace in pots.paces]


def test_steady_scores_convince_without_the_slowest_pace():
    pots = played([1.5, 0.5] * 8)
    each, two, three = wealth_by_pace(pots)

    assert three < two < each
    assert bets.lasting_worth(pots) == two


def test_where_scores_sway_the_slowest_pace_must_be_convinced_too():
    pots = played([3, 3, 3, 3, 3, 3, 0, 0, 0] * 2)

    assert min(wealth_by_pace(pots)) == wealth_by_pace(pots)[-1]
    assert bets.lasting_worth(pots) == wealth_by_pace(pots)[-1]


def test_each_pace_bets_on_as_many_rounds_as_it_has_pots():
    pots = played([0.7, -0.3, 1.1])

    assert pots.paces[0][0] == played_alone([0.7, -0.3, 1.1])
    assert pots.paces[1] == (played_alone([0.8 / sqrt(2)]), played_alone([0.4 / sqrt(2)]))
    assert pots.paces[2] == (bets.NEW, bets.NEW, played_alone([1.5 / sqrt(3)]))


def played_alone(scores):
    pot = bets.NEW
    for score in scores:
        pot = bets.play_round(pot, score, bets.SCORES)
    return pytest.approx(pot)


def test_a_score_has_a_deviation_of_one_whatever_the_sizes():
    sizes = [0.01, 0.3, 0.31, 2.0, 40.0, 1e6]
    scores = [normal_score([sign * size for sign, size in zip(signs, sizes, strict=True)], 0.0)
              for signs in product((1, -1), repeat=len(sizes))]  # fmt: skip

    assert sum(scores) == pytest.approx(0)
    assert sum(score * score for score in scores) / len(scores) == pytest.approx(1)


def test_a_wild_time_weighs_no_more_than_its_rank():
    assert normal_score([-0.1, 0.2, 3.0], 0.0) == normal_score([-0.1, 0.2, 3000.0], 0.0) > 0
    assert normal_score([0.1, 0.1], 0.1) == 0
    assert normal_score([], 0.1) == 0
