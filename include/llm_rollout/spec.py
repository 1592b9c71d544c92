"""The spec of one model: what a platform engineer writes, everything else has a default with its reason.

A field's description gives meaning, unit and why the default is what it is. Unknown fields are errors.
What one field may hold stands here; what only several fields together can get wrong stands in
:mod:`llm_rollout.spec_rules`, apart, so that a record written under older rules stays readable.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$", max_length=40)]
"""A DNS-1035 label short enough that every derived name stays within 63 characters."""
Namespace = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
ObjectName = Annotated[str, Field(pattern=r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$", max_length=253)]
"""The name of an object that exists already."""
Image = Annotated[str, Field(pattern=r"^[\w.-]+(:\d+)?(/[\w.-]+)*(:[\w.-]+)?(@sha256:[0-9a-f]{64})?$")]
Attachment = Annotated[str, Field(pattern=r"^([-a-z0-9]+/)?[a-z0-9]([-.a-z0-9]*[a-z0-9])?(@[\w.-]{1,15})?$")]
Clock = Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]
Percent = Annotated[int, Field(ge=1, le=50)]
"""Of requests. With more than half of them a candidate is slower than stable for that alone."""
_DAY_SECONDS = 24 * 3600
Silence = Annotated[int, Field(ge=5, le=_DAY_SECONDS)] | None
"""Whole seconds; less than five is less than one look and a hiccup."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Model(_Part):
    """Which weights."""

    repo: str = Field(pattern=r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$", description="ORG/NAME on the hub.")
    revision: str = Field(
        "main", pattern=r"^[\w./-]+$", description="Branch, tag or commit; a run resolves it to a commit once."
    )
    endpoint: str = Field(
        "https://huggingface.co",
        pattern=r"^((https?|s3|gs)://[^\s/]+|file:///[^\s/]+)",
        description="A hub as Jobs in the cluster reach it, an s3:// or gs:// address, or file:// on the store.",
    )
    token_secret: ObjectName | None = Field(None, description="Secret with the key HF_TOKEN, for gated repositories.")
    source_secret: ObjectName | None = Field(
        None,
        description="Secret whose keys become the staging Job's environment, for s3:// and gs://: AWS_ACCESS_KEY_ID, "
        "AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT, GOOGLE_SERVICE_ACCOUNT_KEY. None: what the node or its identity grants.",
    )


class Store(_Part):
    """Where weights are kept: a ReadWriteMany claim that all chosen nodes can mount."""

    claim: ObjectName = Field("model-store", description="PersistentVolumeClaim in the model's namespace.")
    mount_path: str = Field("/models", pattern=r"^/", description="Where pods see it.")


class Resources(_Part):
    """What one pod of a group takes of its node besides GPUs."""

    cpu: str = Field("32", description="Requested; engines need cores for tokenizing and scheduling.")
    memory: str = Field("200Gi", description="Requested.")
    shm: str = Field("64Gi", description="Size of /dev/shm: NCCL and the mp executor exchange through it.")


class Network(_Part):
    """How pods of a group reach each other."""

    attachments: tuple[Attachment, ...] = Field((), description="NetworkAttachmentDefinitions, one for each rail.")
    rdma_resource: str | None = Field(
        "rdma/rdma_shared_device_a",
        pattern=r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?/[A-Za-z0-9]([\w.-]*[A-Za-z0-9])?$",
        description="None: no RDMA device is asked for.",
    )
    hcas: tuple[str, ...] = Field(
        ("mlx5_0",), min_length=1, description="Exact names for NCCL_IB_HCA (prefixes match too much)."
    )
    socket_interface: str = Field("eth0", pattern=r"^[\w.-]{1,15}$", description="Exact name for NCCL's bootstrap.")
    nccl_env: dict[str, str] = Field(default_factory=dict, description="Further NCCL_* settings.")


class Server(_Part):
    """The model server: this part and the commit make the revision."""

    image: Image = "vllm/vllm-openai:v0.33.0"
    executor: Literal["mp", "ray"] = Field("mp", description="mp needs no Ray, which stock images lack since 0.19.")
    nodes_per_group: int = Field(ge=1, le=64, description="Pods of one group, the leader included.")
    gpus_per_node: int = Field(8, ge=1, le=16)
    tensor_parallel: int = Field(ge=1)
    pipeline_parallel: int = Field(1, ge=1)
    max_model_len: int | None = Field(None, ge=1, description="Tokens; None leaves it to the model.")
    gpu_memory_utilization: float = Field(0.92, gt=0, le=1)
    extra_args: tuple[str, ...] = Field((), description="Further engine flags, the same on every node of a group.")
    env: dict[str, str] = Field(default_factory=dict, description="Further environment, the same on every node.")
    port: int = Field(8000, ge=1, le=65535)
    resources: Resources = Field(default_factory=Resources)
    network: Network = Field(default_factory=Network)


class Fabric(_Part):
    """How fit the fabric has to be."""

    accept_transports: tuple[Literal["rdma", "simulated", "tcp"], ...] = Field(
        ("rdma",), min_length=1, description="A verdict on another transport is a failure: sockets are silent and slow."
    )
    accept_degraded: bool = False
    min_fraction_of_rate: float = Field(0.90, gt=0, le=1, description="Fail below this part of the port rate.")
    warn_fraction_of_rate: float = Field(0.95, gt=0, le=1, description="DEGRADED below this part of the port rate.")
    max_latency_usec: float = Field(10.0, gt=0, description="ib_write_lat, 99th percentile.")
    seconds_per_pair: int = Field(5, ge=1, le=60)
    deadline_seconds: int = Field(600, ge=30, le=_DAY_SECONDS)
    traffic_class: int | None = Field(
        None, ge=0, le=255, description="IPv6/IPv4 class byte (DSCP * 4) to measure with; None: NCCL_IB_TC, else 0."
    )
    service_level: int | None = Field(
        None, ge=0, le=15, description="InfiniBand service level to measure with; None: NCCL_IB_SL, else 0."
    )
    queue_pairs: int = Field(
        4, ge=1, le=128, description="For each connection; one alone can lie on a single path and not fill a port."
    )
    nccl: bool = Field(
        False, description="Run NCCL shortly as well; it takes the GPUs, so it is only for nodes known to be free."
    )
    attempts: int = Field(
        3, ge=1, le=5, description="Of a cell below the limits: with one retry a 1 % flake still alarms too often."
    )
    hidden_size: int | None = Field(
        None, ge=1, description="The model's, from its config.json: with it DEGRADED says what it costs a token."
    )
    cache_hours: int = Field(
        24, ge=0, le=168, description="How long a PASS of the same nodes and settings counts: a day; 0 never."
    )
    replan: bool = Field(
        True, description="Put other nodes in the place of a bad one, once; a second one means something else is wrong."
    )


class Service(_Part):
    """Where clients connect."""

    name: Name
    port: int = Field(80, ge=1, le=65535)


class Canary(_Part):
    """When the candidate is good enough, too bad, or not known."""

    tasks: str = Field(
        "arithmetic", description="Bundled task set, the path of a JSONL file on the store, or configmap:NAME/KEY."
    )
    required: tuple[Literal["errors", "ttft", "tail", "itl", "throughput", "quality"], ...] = Field(
        ("errors", "ttft", "tail", "itl", "quality"), min_length=1, description="What a promotion has to prove."
    )
    warmup_pairs: int = Field(250, ge=0, description="First pairs whose times do not count: caches are cold.")
    max_pairs: int = Field(3000, ge=50, description="Undecided after so many pairs of requests.")
    round_pairs: int = Field(50, ge=5, le=500, description="Pairs a round; a round must outlast one-sided noise.")
    concurrency: int = Field(8, ge=1, le=256, description="Requests in flight to each side, at most.")
    share_of_capacity: float = Field(0.5, gt=0, le=1, description="Part of stable's free capacity that is used.")
    max_waiting: int = Field(0, ge=0, description="Requests that may queue on stable while more are asked.")
    max_tokens: int = Field(16, ge=1)
    alpha: float = Field(0.05, gt=0, lt=0.5, description="Chance of rolling back a candidate that is as good.")
    beta: float = Field(0.05, gt=0, lt=0.5, description="Chance of promoting one that is worse by a margin.")
    error_margin: float = Field(0.01, gt=0, lt=1, description="Promote proves: errors not up by so much.")
    quality_margin: float = Field(0.03, gt=0, lt=1, description="Promote proves: right answers not down by so much.")
    min_accuracy: float = Field(0.5, ge=0, le=1, description="First deployment: part of the answers that is right.")
    max_error_rate: float = Field(
        0.02,
        ge=0,
        le=1,
        description="Part of the requests that fail: in a first deployment, and live where the old rate is unknown.",
    )
    max_ttft_ms: float | None = Field(None, gt=0, description="First deployment: 95 of 100 first tokens come by then.")
    deadline_seconds: int = Field(3600, ge=30, le=_DAY_SECONDS)


class Patience(_Part):
    """Seconds without a sign of progress after which a phase of the cold start counts as stalled; None: the default."""

    scheduling: Silence = None
    volumes: Silence = None
    image_pull: Silence = None
    process: Silence = None
    rendezvous: Silence = None
    weights: Silence = None
    compile: Silence = None
    kv_cache: Silence = None
    graph_capture: Silence = None
    engine_up: Silence = None
    serving: Silence = None

    def asked(self) -> dict[str, float]:
        """What the spec sets, in seconds by phase."""
        return {phase: float(seconds) for phase, seconds in self if seconds is not None}


class Timing(_Part):
    """Budgets in seconds."""

    cold_start_seconds: int = Field(
        1800,
        ge=10,
        le=_DAY_SECONDS,
        description="From apply to serving. Probes and the engine's own timeouts are derived from it.",
    )
    staging_seconds: int = Field(4 * 3600, ge=10, le=7 * _DAY_SECONDS)
    bake_seconds: int = Field(
        300, ge=0, le=_DAY_SECONDS, description="Live on the new revision with the old group warm."
    )
    drain_seconds: int = Field(
        120, ge=0, le=3600, description="What open streams get to finish before a group is deleted."
    )
    max_recreations: int = Field(
        3, ge=0, description="Group recreations after which a candidate has failed; none where the cause cannot pass."
    )
    patience: Patience = Field(default_factory=Patience)


class Shift(_Part):
    """Live requests move to the candidate in steps, by the weights of an HTTPRoute, and every step is judged."""

    http_route: ObjectName = Field(description="In the model's namespace; a rule of it sends requests to service.name.")
    percent: tuple[Percent, ...] = Field(
        (1, 5, 25, 50), min_length=1, description="Of the requests, step by step; after the last one all of them move."
    )
    step_seconds: int = Field(120, ge=1, le=_DAY_SECONDS, description="At least so long at each step.")
    step_pairs: int = Field(
        60, ge=60, description="Requests of the candidate, as many of stable, to judge at each step: three rounds."
    )
    deadline_seconds: int = Field(
        3600, ge=10, le=_DAY_SECONDS, description="Of all steps; with too few requests until then nothing is switched."
    )


class Approval(_Part):
    """A person has to say yes before the switch."""

    assigned_users: tuple[str, ...] = ()
    response_timeout_seconds: int = Field(4 * 3600, ge=60, description="No answer counts as no.")


class Window(_Part):
    """When scheduled upgrades may start."""

    days: tuple[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"], ...] = Field(
        ("mon", "tue", "wed", "thu", "fri", "sat", "sun"), min_length=1
    )
    start: Clock = Field(description="HH:MM.")
    end: Clock = Field(description="HH:MM; before start means the next day.")
    timezone: str = Field(description="IANA name; there is no default, since a wrong zone is a daytime upgrade.")


class Upgrades(_Part):
    """Scheduled upgrades: a new commit of the revision starts a rollout inside the window."""

    window: Window


class Autoscaling(_Part):
    """A HorizontalPodAutoscaler on waiting requests, moved to the new revision after the switch."""

    min_groups: int = Field(1, ge=1)
    max_groups: int = Field(ge=1, le=64)
    waiting_requests: int = Field(10, ge=1, description="Mean waiting requests a leader above which groups are added.")
    metric: str = Field("vllm_num_requests_waiting", description="The name the metrics adapter gives it.")


class RolloutSpec(_Part):
    """One model in one namespace, behind one Service."""

    name: Name
    namespace: Namespace = "default"
    model: Model
    store: Store = Field(default_factory=Store)
    server: Server
    groups: int = Field(1, ge=1, le=64, description="Independent instances of the model (LeaderWorkerSet replicas).")
    service: Service
    strategy: Literal["auto", "blue_green"] = Field("auto", description="auto takes blue_green where GPUs suffice.")
    fabric: Fabric = Field(default_factory=Fabric)
    canary: Canary = Field(default_factory=Canary)
    timing: Timing = Field(default_factory=Timing)
    shift: Shift | None = Field(None, description="None: all new connections move at once.")
    approval: Approval | None = None
    upgrades: Upgrades | None = None
    autoscaling: Autoscaling | None = None
    pod_monitor: bool = Field(False, description="Create a PodMonitor (where its API exists).")
    job_image: Image = Field("ghcr.io/llm-rollout/llm-rollout:0.1.0", description="Image of the Jobs; has perftest.")

    @property
    def served_name(self) -> str:
        """The model name that clients ask for; stays the same over revisions."""
        return self.name
