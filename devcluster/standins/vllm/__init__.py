"""Stands in for ``vllm serve`` 0.33 where there are no GPUs: its flags, log lines, endpoints, metrics and failures.

Tokens are real: the decoder layers of the model directory are split over the ``--nnodes`` processes, each loads only
its own tensors from the safetensors, and activations go from rank to rank over TCP. Wrong weights give wrong answers,
a dead worker kills the leader, a dead leader ends its workers. Serving covers /health, /ping, /version, /metrics,
/v1/models, /v1/completions, /v1/chat/completions, /tokenize and /detokenize. Of the executors there is ``mp``;
``ray`` ends as in stock images, which lack Ray. Real flags without meaning here are accepted and ignored.

On SIGTERM a leader lets requests finish for up to ``--shutdown-timeout`` seconds. A headless worker leaves at once, as
vLLM's do, and its leader then dies with what it still has: a group is drained before its pods are deleted, not by it.

Faults are switched on by environment variables; all are off by default:

=============================  ======================================================================================
STANDIN_GPUS                   GPUs that the node has (default: counted from NVIDIA_VISIBLE_DEVICES, else 8).
STANDIN_LOAD_SECONDS           Spread over the loading of weights.
STANDIN_COMPILE_SECONDS        What torch.compile takes.
STANDIN_GRAPH_SECONDS          Spread over the capturing of CUDA graphs.
STANDIN_STEP_SECONDS           Least duration of one engine step, so of one token of every running request.
STANDIN_TTFT_FACTOR            Times to first token are so many times longer.
STANDIN_TTFT_DELAY_SECONDS     Added to every time to first token.
STANDIN_ERROR_RATE             Part of the generation requests that get a 500, from 0 to 1.
STANDIN_STALL_RATE             Part of the generation requests that stop after a few tokens without ending.
STANDIN_CRASH_AFTER_SECONDS    The process dies so long after its engine is up.
STANDIN_CRASH_AFTER_REQUESTS   The process dies at the request after so many.
STANDIN_FAIL                   A class of ``failures.FAILURES``, or ``CLASS@phase``: starting fails at the phase where
                               vLLM does, in its words.
STANDIN_HANG                   A phase of ``failures.PHASES``: starting gets so far, and then nothing happens any more.
STANDIN_FAIL_RANK              The node rank that STANDIN_FAIL, STANDIN_HANG and STANDIN_CRASH_AFTER_SECONDS mean
                               (default 0).
=============================  ======================================================================================

What can fail by itself does: disagreeing flags, broken models and shards, ports in use, dead peers, wrong addresses.
VLLM_KEEP_ALIVE_ON_ENGINE_DEATH and VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS mean what they mean to vLLM.
"""

VERSION = "0.33.0"
