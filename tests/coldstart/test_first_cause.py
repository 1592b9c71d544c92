import pytest

from llm_rollout.coldstart.first_cause import disagreeing, first, first_of_group
from llm_rollout.coldstart.reading import read
from llm_rollout.coldstart.words import CONSEQUENCES, LOG_CLASSES, Cause

_DAY = 24 * 3600.0
_ROOTS = sorted(LOG_CLASSES - CONSEQUENCES)


def cause(class_name, at=None, source=""):
    return Cause(class_name, "", "", at=at, source=source)


def test_the_first_in_time_wins_whatever_the_order_of_the_files():
    early, late = cause("GPU_OOM", 100.0), cause("NCCL", 101.0)
    assert first([late, early]) is early


@pytest.mark.parametrize("consequence", sorted(CONSEQUENCES - {"TERMINATED"}))
@pytest.mark.parametrize("root", _ROOTS)
def test_a_consequence_never_wins_over_a_root_not_even_when_it_came_first(root, consequence):
    told = [cause(consequence, 1.0), cause(root, 2.0)]
    assert first(told).class_name == root
    assert first([cause(consequence), cause(root)]).class_name == root


def test_without_times_the_order_given_decides():
    leader, worker = cause("TIMEOUT"), cause("PEER_LOST")
    assert first([leader, worker]) is leader


def test_of_two_in_the_same_second_the_rank_that_lost_its_peer_is_not_the_first():
    assert first([cause("PEER_LOST", 5.0), cause("UNKNOWN", 5.0)]).class_name == "UNKNOWN"


def test_of_two_errors_of_the_same_second_the_worker_s_is_the_first():
    core, worker = Cause("ENGINE_BUG", "", "", at=5.0), Cause("ENGINE_BUG", "", "", at=5.0, in_worker=True)
    assert first([core, worker]) is worker
    assert first([Cause("ENGINE_BUG", "", "", at=4.0), worker]).at == 4.0


def test_a_request_to_stop_is_never_the_first_cause():
    assert first([cause("TERMINATED", 1.0)]) is None
    assert first([cause("TERMINATED", 1.0), cause("PEER_LOST", 2.0)]).class_name == "PEER_LOST"


def test_times_with_and_without_a_year_are_compared_within_the_year():
    error = "(Worker pid=1) ERROR 11-23 10:00:04 [x.py:1] RuntimeError: NCCL error: unhandled system error"
    yearless = read(error).cause
    for second, expected in (("03", "GPU_OOM"), ("05", "NCCL")):
        exact = read(f"2026-11-23T10:00:{second}Z torch.OutOfMemoryError: CUDA out of memory. Tried").cause
        assert exact.at - yearless.at > 50 * 365 * _DAY
        assert first([yearless, exact]).class_name == expected


def leader(**flags):
    return f"(APIServer pid=1) INFO 11-23 10:00:01 [startup.py:96] non-default args: {flags!r}\n"


@pytest.mark.parametrize(
    ("flag", "one", "other"),
    [
        ("tensor_parallel_size", 2, 4),
        ("nnodes", 2, 3),
        ("dtype", "float16", "bfloat16"),
        ("model", "/models/a", "/models/b"),
        ("quantization", "awq", None),
        ("max_model_len", 512, 1024),
        ("gpu_memory_utilization", 0.9, 0.8),
    ],
)
def test_flags_that_must_agree_are_named_with_both_values(flag, one, other):
    second = {} if other is None else {flag: other}
    found = disagreeing({"leader.log": leader(**{flag: one}), "worker.log": "\n" + leader(**second, headless=True)})
    assert found.class_name == "FLAGS_DISAGREE"
    assert (found.source, found.line) == ("worker.log", 2)
    assert f"--{flag.replace('_', '-')} " in found.message
    assert str(one) in found.message
    assert str("the default" if other is None else other) in found.message


def test_flags_that_only_one_rank_has_do_not_disagree():
    texts = {
        "leader.log": leader(model="/m", port=8000, served_model_name=["x"], pipeline_parallel_size=2),
        "worker.log": leader(model="/m", headless=True, node_rank=1, pipeline_parallel_size=2),
    }
    assert disagreeing(texts) is None


def test_a_flag_that_is_given_its_default_agrees_with_one_that_is_left_out():
    typed = "INFO 11-23 10:00:01 [utils.py:233] non-default args: serve /m --pipeline-parallel-size 1 -tp=2 --headless"
    assert disagreeing({"leader.log": leader(model="/m", tensor_parallel_size=2), "worker.log": typed}) is None


def test_command_lines_are_compared_with_each_other():
    line = "INFO 11-23 10:00:01 [utils.py:233] non-default args: serve /m --tensor-parallel-size {}"
    found = disagreeing({"leader.log": line.format(2), "worker.log": line.format(4)})
    assert "--tensor-parallel-size" in found.message


def test_a_line_that_was_cut_does_not_claim_that_what_it_lacks_has_its_default():
    whole = leader(model="/m", tensor_parallel_size=2, nnodes=2)
    cut = whole[: whole.index(", 'nnodes'")]
    assert disagreeing({"leader.log": whole, "worker.log": cut}) is None


def test_a_disagreement_explains_a_rendezvous_that_failed_but_not_an_error_that_explains_itself():
    one, other = leader(nnodes=2), leader(nnodes=3)
    timeout = "torch.distributed.DistStoreError: wait timeout after 60000ms, keys: /default_pg/0//cpu//0/1\n"
    gated = "huggingface_hub.errors.GatedRepoError: 403 Client Error.\n"
    for text, expected in ((timeout, "FLAGS_DISAGREE"), (gated, "PERMISSION")):
        texts = {"leader.log": one + text, "worker.log": other}
        assert first_of_group({name: read(each) for name, each in texts.items()}, texts).class_name == expected


def test_a_group_that_serves_has_no_first_cause_although_a_flag_differs():
    texts = {
        "leader.log": leader(max_model_len=512) + "INFO:     Application startup complete.\n",
        "worker.log": leader(max_model_len=1024),
    }
    assert first_of_group({name: read(each) for name, each in texts.items()}, texts) is None


def test_a_group_that_is_on_its_way_is_told_only_of_flags_with_which_it_cannot_come_up():
    def group(flag):
        texts = {"leader.log": leader(**{flag: 2}), "worker.log": leader(**{flag: 3})}
        return first_of_group({name: read(each) for name, each in texts.items()}, texts)

    assert group("max_num_seqs") is None
    assert group("nnodes").class_name == "FLAGS_DISAGREE"


def test_a_wrong_port_is_a_rendezvous_that_failed():
    one, other = leader(master_port=29501), leader(master_port=29502)
    timeout = "torch.distributed.DistStoreError: Timed out after 41 seconds waiting for clients. 1/2 clients joined.\n"
    texts = {"leader.log": one + timeout, "worker.log": other}
    assert first_of_group({name: read(each) for name, each in texts.items()}, texts).class_name == "RENDEZVOUS"


def worker(world_size=2, architecture="LlamaForCausalLM", extra=""):
    head = "(MainProcess pid=7) INFO 11-23 10:00:02 "
    return (
        f"{head}[model.py:733] Resolved architecture: {architecture}\n"
        f"{head}[parallel_state.py:1930] world_size={world_size} rank=1 local_rank=0 distributed_init_method=tcp://a:1\n"
        f"{extra}\n"
    )


def test_workers_that_do_not_log_their_flags_are_known_by_what_follows_from_them():
    texts = {"leader.log": leader(tensor_parallel_size=2) + worker(), "worker.log": worker(world_size=4)}
    found = disagreeing(texts)
    assert "leader.log has 2, worker.log has 4" in found.message
    assert (found.class_name, found.line) == ("FLAGS_DISAGREE", 2)
    assert disagreeing({"leader.log": leader(tensor_parallel_size=2) + worker(), "worker.log": worker()}) is None


def test_ranks_that_wait_for_different_process_groups_were_given_different_flags():
    def waiting(group, rank):
        return worker(extra=f"torch.distributed.DistStoreError: wait timeout after 40000ms, keys: {group}/{rank}")

    same = {"leader.log": waiting("/default_pg/0//3//cpu//0", 1), "worker.log": waiting("/default_pg/0//3//cpu//0", 0)}
    other = same | {"worker.log": waiting("/default_pg/0//15//cpu//0", 0)}
    assert disagreeing(same) is None
    assert disagreeing(other).class_name == "FLAGS_DISAGREE"


def test_what_a_log_that_was_cut_does_not_say_does_not_disagree():
    texts = {"leader.log": leader(tensor_parallel_size=2), "worker.log": worker()}
    assert disagreeing(texts) is None
