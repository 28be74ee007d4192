"""Diagnosis: from what scheduler, kubelet and controllers say of pods to a cause."""

from __future__ import annotations

from typing import Any

import pytest

from endpoint_operator.diagnosis import Diagnosis, causes, diagnose, refusal
from helpers import pods
from helpers.pods import at

Object = dict[str, Any]

NO_GPU = (
    "0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 Insufficient nvidia.com/gpu."
    " no new claims to deallocate, preemption: 0/3 nodes are available: 1 Preemption is not helpful"
    " for scheduling, 2 No preemption victims found for incoming pod."
)
PULL_ERROR = (
    'rpc error: code = NotFound desc = failed to pull and unpack image "docker.io/vllm/nope:v1":'
    ' failed to resolve reference "docker.io/vllm/nope:v1": docker.io/vllm/nope:v1: not found'
)
NO_PROGRAM = (
    "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc"
    ' create failed: unable to start container process: error during container init: exec: "vllm":'
    " executable file not found in $PATH"
)
OLD_DRIVER = (
    "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc"
    " create failed: unable to start container process: error during container init: error running"
    " prestart hook #0: exit status 1, stdout: , stderr: Auto-detected mode as 'legacy'\n"
    "nvidia-container-cli: requirement error: unsatisfied condition: cuda>=12.9, please update your"
    " driver to a newer version, or use an earlier cuda container: unknown"
)
OLD = "0ld0ld0ld0ld0ld0"


def found(*seen: Object, deployment: Object | None = None, **more: Any) -> Diagnosis:
    return diagnose(deployment or pods.deployment(), seen, now=more.pop("now", at(60)), **more)


def cause(*seen: Object, deployment: Object | None = None, **more: Any) -> causes.Cause:
    known = found(*seen, deployment=deployment, **more).cause
    assert known is not None
    return known


@pytest.mark.parametrize(
    ("seen", "reason", "words"),
    [
        pytest.param(
            pods.unscheduled(NO_GPU),
            causes.INSUFFICIENT_GPU,
            "1 GPU (nvidia.com/gpu) is asked for and no node has as many free: "
            "Insufficient nvidia.com/gpu; node(s) had untolerated taint(s).",
            id="no GPU is free",
        ),
        pytest.param(
            pods.unscheduled("0/1 nodes are available: 1 Insufficient memory."),
            causes.UNSCHEDULABLE,
            "Insufficient memory",
            id="no memory is free",
        ),
        pytest.param(
            pods.unscheduled("0/1 nodes are available: 1 Insufficient ephemeral-storage."),
            causes.UNSCHEDULABLE,
            "Insufficient ephemeral-storage",
            id="no ephemeral storage is free",
        ),
        pytest.param(
            pods.unscheduled(
                "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector."
                " no new claims to deallocate, preemption: 0/2 nodes are available: 2 Preemption"
                " is not helpful for scheduling."
            ),
            causes.UNSCHEDULABLE,
            "spec.gpu.products",
            id="no such GPU",
        ),
        pytest.param(
            pods.unscheduled(
                '0/1 nodes are available: persistentvolumeclaim "models" not found. not found'
            ),
            causes.VOLUME_FAILED,
            'persistentvolumeclaim "models" not found',
            id="no such claim",
        ),
        pytest.param(
            pods.unscheduled(
                "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims."
                " not found"
            ),
            causes.VOLUME_FAILED,
            "unbound immediate PersistentVolumeClaims",
            id="a pending claim",
        ),
        pytest.param(
            pods.pod(pods.waiting("ErrImagePull", PULL_ERROR)),
            causes.IMAGE_PULL_FAILED,
            "vllm/nope:v1: not found",
            id="no such image",
        ),
        pytest.param(
            pods.pod(
                pods.waiting(
                    "InvalidImageName",
                    'Failed to apply default image tag "Vllm": couldn\'t parse image name',
                )
            ),
            causes.IMAGE_PULL_FAILED,
            "couldn't parse image name",
            id="no name of an image",
        ),
        pytest.param(
            pods.pod(pods.waiting("CreateContainerConfigError", 'secret "hf-token" not found')),
            causes.CONFIGURATION_MISSING,
            'secret "hf-token" not found',
            id="no such Secret",
        ),
        pytest.param(
            pods.pod(
                pods.waiting(
                    "CreateContainerConfigError",
                    "couldn't find key token in Secret team-a/hf-token",
                )
            ),
            causes.CONFIGURATION_MISSING,
            "couldn't find key token",
            id="no such key",
        ),
        pytest.param(
            pods.pod(
                pods.waiting(
                    "CreateContainerConfigError",
                    "container has runAsNonRoot and image will run as root",
                )
            ),
            causes.POD_START_FAILED,
            "runAsNonRoot",
            id="root is refused",
        ),
        pytest.param(
            pods.pod(pods.waiting("RunContainerError", NO_PROGRAM)),
            causes.IMAGE_UNUSABLE,
            'exec: "vllm": executable file not found',
            id="an image without vLLM",
        ),
        pytest.param(
            pods.crashing(
                NO_PROGRAM,
                exit_code=128,
                reason="StartError",
                began=-62_000_000_000,
                finished=3,
            ),
            causes.IMAGE_UNUSABLE,
            'exec: "vllm": executable file not found',
            id="an image without vLLM, later",
        ),
        pytest.param(
            pods.crashing(exit_code=137, reason="OOMKilled"),
            causes.OUT_OF_MEMORY,
            "its limit of 3Gi",
            id="out of memory",
        ),
        pytest.param(
            pods.crashing("fatal: who knows", exit_code=3),
            causes.CRASH_LOOP,
            "with exit code 3 before it is up",
            id="an unknown end",
        ),
        pytest.param(
            pods.crashing(exit_code=137),
            causes.CRASH_LOOP,
            "ran out of memory",
            id="killed without a limit",
        ),
        pytest.param(
            pods.crashing("OSError: [Errno 28] No space left on device"),
            causes.VOLUME_FULL,
            "spec.model.cache.size, or where it is your own claim (claimName), that claim.",
            id="a full volume",
        ),
        pytest.param(
            pods.pod(pods.waiting("RunContainerError", OLD_DRIVER)),
            causes.GPU_UNUSABLE,
            "nvidia-container-cli: requirement error: unsatisfied condition: cuda>=12.9, please"
            " update your driver to a newer version, or use an earlier cuda container. Its driver",
            id="an old driver",
        ),
        pytest.param(
            pods.crashing(OLD_DRIVER, exit_code=128, reason="StartError"),
            causes.GPU_UNUSABLE,
            "please update your driver",
            id="an old driver, later",
        ),
        pytest.param(
            pods.pod(
                pods.waiting(
                    "CreateContainerError",
                    "failed to generate container spec: failed to generate spec: CDI device"
                    " injection failed: unresolvable CDI devices nvidia.com/gpu=0",
                )
            ),
            causes.GPU_UNUSABLE,
            "its GPUs: unresolvable CDI devices nvidia.com/gpu=0.",
            id="a device that the node does not describe",
        ),
        pytest.param(
            pods.pod(
                pods.waiting(
                    "CreateContainerError",
                    'failed to reserve container name "engine_qwen-engine-1_team-a_1_0": name'
                    ' "engine_qwen-engine-1_team-a_1_0" is reserved for "0a1b"',
                )
            ),
            causes.POD_START_FAILED,
            "too slow to make a container: failed to reserve container name. It tries",
            id="a name that is reserved still",
        ),
        pytest.param(
            pods.pod(
                pods.waiting(
                    "RunContainerError",
                    "failed to create containerd task: failed to create shim task: OCI runtime"
                    ' create failed: runc create failed: error mounting "/x": not a directory',
                )
            ),
            causes.POD_START_FAILED,
            "The engine can't be started: failed to create containerd task",
            id="a container that can't be started for another reason",
        ),
        pytest.param(
            pods.pod(pods.waiting("RunContainerError", NO_PROGRAM, name="proxy")),
            causes.IMAGE_UNUSABLE,
            "Container proxy of spec.podTemplate can't be started: failed to create",
            id="a sidecar without its program",
        ),
        pytest.param(
            pods.pod(pods.waiting("ErrImagePull", PULL_ERROR, name="proxy")),
            causes.IMAGE_PULL_FAILED,
            "Check the image of container proxy in spec.podTemplate;",
            id="no such image of a sidecar",
        ),
        pytest.param(
            pods.pod(
                pods.running(),
                pods.waiting(
                    "CrashLoopBackOff",
                    last=pods.ended(exit_code=137, reason="OOMKilled"),
                    name="proxy",
                ),
            ),
            causes.OUT_OF_MEMORY,
            "Container proxy of spec.podTemplate used more memory (RAM, not the GPU's) than its"
            " limit of 64Mi, /dev/shm included. Raise its resources there.",
            id="a sidecar out of memory",
        ),
        pytest.param(
            pods.crashing(exit_code=143, finished=1803),
            causes.STARTUP_TIMEOUT,
            "spec.startupTimeout",
            id="not up in time",
        ),
        pytest.param(
            pods.pod(
                phase="Failed",
                reason="Evicted",
                message="The node was low on resource: ephemeral-storage. Threshold quantity:"
                " 5368688946, available: 5120Mi. Container engine was using 41Gi",
                conditions=(pods.condition("DisruptionTarget", "True"),),
            ),
            causes.EVICTED,
            "The node was low on resource: ephemeral-storage. If",
            id="evicted",
        ),
        pytest.param(
            pods.pod(
                phase="Failed",
                reason="UnexpectedAdmissionError",
                message="Pod was rejected: Allocate failed due to no healthy devices present;"
                " cannot allocate unhealthy devices nvidia.com/gpu, which is unexpected",
            ),
            causes.POD_START_FAILED,
            "turned a replica away (UnexpectedAdmissionError): Pod was rejected: Allocate failed"
            " due to no healthy devices present; cannot allocate unhealthy devices nvidia.com/gpu",
            id="a GPU that is ill",
        ),
        pytest.param(
            pods.pod(
                pods.running(ready=True, started=True),
                conditions=(pods.condition("ContainersReady", "True"),),
            ),
            causes.NODE_LOST,
            "does not answer",
            id="a silent node",
        ),
        pytest.param(
            pods.pod(
                pods.running(ready=True, started=True),
                pods.waiting("CrashLoopBackOff", last=pods.ended(), name="proxy"),
            ),
            causes.CRASH_LOOP,
            "Container proxy of spec.podTemplate",
            id="a sidecar that crashes",
        ),
    ],
)
def test_a_pod_tells_its_cause(seen: Object, reason: str, words: str) -> None:
    template = pods.deployment(limits={"memory": "3Gi"})
    sidecar = {"name": "proxy", "resources": {"limits": {"memory": "64Mi"}}}
    template["spec"]["template"]["spec"]["containers"].append(sidecar)
    known = cause(seen, deployment=template)
    assert known.reason == reason
    assert words in known.message


@pytest.mark.parametrize(
    "seen",
    [
        pytest.param(pods.pod(pods.waiting("ContainerCreating"), phase="Pending"), id="pulling"),
        pytest.param(pods.pod(pods.running()), id="loading"),
        pytest.param(pods.serving(), id="serving"),
        pytest.param(pods.pod(node="", conditions=()), id="just made"),
    ],
)
def test_a_healthy_pod_has_no_cause(seen: Object) -> None:
    assert found(seen).cause is None


@pytest.mark.parametrize(
    ("said", "lasting"),
    [
        pytest.param(PULL_ERROR, True, id="no such image"),
        pytest.param("pull access denied: insufficient_scope", True, id="refused"),
        pytest.param("dial tcp: lookup images.invalid: no such host", True, id="no such registry"),
        pytest.param(
            "unexpected status code https://images.example/v2/vllm/vllm-openai/manifests/v1:"
            " 429 Too Many Requests - Server message: toomanyrequests: You have reached your"
            " unauthenticated pull rate limit.",
            False,
            id="too many pulls",
        ),
        pytest.param("unexpected status code: 503 Service Unavailable", False, id="overloaded"),
        pytest.param("net/http: TLS handshake timeout", False, id="slow"),
        pytest.param("dial tcp 10.0.0.9:443: connect: connection refused", False, id="away"),
    ],
)
def test_a_registry_that_is_busy_or_away_passes(said: str, lasting: bool) -> None:
    known = cause(pods.pod(pods.waiting("ErrImagePull", said)))
    assert (known.reason, known.lasting) == (causes.IMAGE_PULL_FAILED, lasting)


def test_an_engine_counts_as_started_from_its_first_start_on() -> None:
    assert not found(pods.pod(pods.waiting("ContainerCreating"))).started
    assert found(pods.pod(pods.running())).started
    assert found(pods.crashing("boom")).started


# -- messages that stay as they are ---------------------------------------------------------------


@pytest.mark.parametrize(
    "states",
    [
        pytest.param(
            [
                pods.pod(pods.waiting("ErrImagePull", PULL_ERROR)),
                pods.pod(
                    pods.waiting(
                        "ImagePullBackOff",
                        f'Back-off pulling image "vllm/nope:v1": ErrImagePull: {PULL_ERROR}',
                    )
                ),
            ],
            id="image",
        ),
        pytest.param(
            [
                pods.crashing("boom", finished=40),
                pods.pod(pods.container({"terminated": pods.ended("boom", finished=99)})),
                pods.pod(pods.running(began=200, last=pods.ended("boom", finished=41))),
            ],
            id="crash",
        ),
        pytest.param(
            [
                pods.unscheduled(NO_GPU),
                pods.unscheduled(NO_GPU.replace("0/3", "0/9").replace(" 2 Ins", " 8 Ins")),
            ],
            id="nodes",
        ),
        pytest.param(
            [
                pods.pod(
                    pods.waiting(
                        "ErrImagePull",
                        f"dial tcp 10.0.0.9:443: read tcp 10.2.0.7:{port}->10.0.0.9:443: timeout",
                    )
                )
                for port in (40112, 51318)
            ],
            id="sockets",
        ),
    ],
)
def test_a_retry_changes_no_word(states: list[Object]) -> None:
    assert len({cause(state).message for state in states}) == 1


def test_a_quota_is_told_without_the_pod_that_was_refused() -> None:
    said = (
        'pods "qwen-engine-6d5f8b7c9-{}" is forbidden: exceeded quota: gpus, requested:'
        " requests.nvidia.com/gpu=2, used: requests.nvidia.com/gpu=4, limited:"
        " requests.nvidia.com/gpu=4"
    )
    refused = [
        pods.deployment(
            conditions=[pods.condition("ReplicaFailure", "True", message=said.format(name))]
        )
        for name in ("x2x7k", "p9q2m")
    ]
    known = {cause(deployment=each) for each in refused}
    assert len(known) == 1
    (only,) = known
    assert only.reason == causes.QUOTA_EXCEEDED
    assert "exceeded quota: gpus, requested: requests.nvidia.com/gpu=2" in only.message


REFUSED = 'pods "qwen-engine-{}-p9q2m" is forbidden: exceeded quota: gpus, requested: ...'


@pytest.mark.parametrize(
    ("refused", "reason"),
    [
        pytest.param("6d5f8b7c9", causes.QUOTA_EXCEEDED, id="of the current template"),
        pytest.param("5c4d7a6b8", causes.INSUFFICIENT_GPU, id="of the template before"),
    ],
)
def test_a_refusal_counts_for_pods_of_the_current_template(refused: str, reason: str) -> None:
    failure = pods.condition("ReplicaFailure", "True", message=REFUSED.format(refused))
    known = cause(pods.unscheduled(NO_GPU), deployment=pods.deployment(conditions=[failure]))
    assert known.reason == reason


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        pytest.param(
            'deployments.apps "qwen-engine" is forbidden: exceeded quota: objects, requested:'
            " count/deployments.apps=1, used: count/deployments.apps=5, limited:"
            " count/deployments.apps=5",
            causes.QUOTA_EXCEEDED,
            id="quota of objects",
        ),
        pytest.param(
            'pods "qwen-engine-1" is forbidden: violates PodSecurity "restricted:latest":'
            ' allowPrivilegeEscalation != false (container "proxy" must set ...)',
            causes.REFUSED_BY_CLUSTER,
            id="Pod Security",
        ),
        pytest.param(
            'Deployment.apps "qwen-engine" is invalid: spec.template.spec.volumes[5]: Required'
            " value: must specify a volume type",
            causes.UNSUPPORTED_BY_CLUSTER,
            id="image volumes",
        ),
    ],
)
def test_a_refusal_of_the_api_server_has_its_reason(message: str, reason: str) -> None:
    assert refusal(message).reason == reason


NOT_ENLARGED = (
    'persistentvolumeclaims "qwen-cache" is forbidden: only dynamically provisioned pvc can be'
    " resized and the storageclass that provisions the pvc must support resize"
)
NO_SUCH_FIELD = (
    "failed to create typed patch object (team-a/qwen-engine; apps/v1, Kind=Deployment):"
    " .spec.template.spec.x: field not declared in schema"
)


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        pytest.param(NOT_ENLARGED, "set spec.model.cache.size back", id="claim"),
        pytest.param(NO_SUCH_FIELD, "in schema. Correct spec.podTemplate", id="field"),
    ],
)
def test_a_refusal_that_is_known_has_its_remedy(said: str, remedy: str) -> None:
    assert remedy in refusal(said).message


def test_a_policy_that_does_not_answer_is_no_lasting_refusal() -> None:
    said = (
        'Internal error occurred: failed calling webhook "policy.example.com": failed to call'
        ' webhook: Post "https://policy.policies.svc:443/validate?timeout=10s": dial tcp'
        " 10.96.0.7:443: connect: connection refused"
    )
    assert not refusal(said).lasting
    assert refusal('pods "a" is forbidden: not on Fridays').lasting


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        pytest.param([], causes.ROLLOUT_PAUSED, id="before the first new replica"),
        pytest.param([pods.unscheduled(NO_GPU)], causes.INSUFFICIENT_GPU, id="and no GPU"),
    ],
)
def test_a_rollout_that_somebody_has_paused_says_so(seen: list[Object], reason: str) -> None:
    paused = pods.deployment(replicas=2, updatedReplicas=1)
    paused["spec"]["paused"] = True
    assert cause(*seen, deployment=paused).reason == reason


def test_a_deployment_that_is_paused_with_nothing_to_roll_is_only_starting() -> None:
    paused = pods.deployment(updatedReplicas=1)
    paused["spec"]["paused"] = True
    assert found(pods.pod(pods.running()), deployment=paused).cause is None


# -- which pod counts -----------------------------------------------------------------------------


def test_pods_of_another_revision_tell_no_cause() -> None:
    old = pods.crashing("boom")
    old["metadata"]["annotations"] = {}
    assert found(old, pods.pod(pods.running(), name="new")).cause is None


def test_a_pod_that_is_going_tells_no_cause() -> None:
    going = pods.crashing("boom")
    going["metadata"]["deletionTimestamp"] = at(50)
    assert found(going).cause is None


def test_the_newest_pod_that_has_a_cause_counts() -> None:
    first = pods.pod(pods.waiting("ErrImagePull", PULL_ERROR), name="a", created=0)
    second = pods.unscheduled(NO_GPU, name="b", created=5)
    third = pods.pod(pods.running(), name="c", created=9)
    assert cause(first, second, third).reason == causes.INSUFFICIENT_GPU
    assert cause(third, second, first).reason == causes.INSUFFICIENT_GPU


def test_an_eviction_is_history_once_a_replica_serves() -> None:
    evicted = pods.pod(name="gone", phase="Failed", reason="Evicted", message="low on memory.")
    assert cause(evicted, pods.pod(pods.running(), created=5)).reason == causes.EVICTED
    assert found(evicted, pods.serving(created=5)).cause is None


def test_a_rollout_that_waits_for_the_gpus_of_the_replica_before_says_so() -> None:
    old = pods.serving(name="old", revision=OLD)
    known = cause(old, pods.unscheduled(NO_GPU, created=9))
    assert known.reason == causes.ROLLOUT_WAITING_FOR_GPU
    assert "spec.rollout.strategy to Replace" in known.message


def test_a_rollout_by_replacement_waits_for_no_replica_before() -> None:
    old = pods.serving(name="old", revision=OLD)
    known = cause(old, pods.unscheduled(NO_GPU, created=9), deployment=replacing())
    assert known.reason == causes.INSUFFICIENT_GPU


def test_a_replica_that_still_answers_its_requests_is_waited_for() -> None:
    old = pods.serving(name="old", revision=OLD)
    old["metadata"]["deletionTimestamp"] = at(9)
    known = cause(old, pods.unscheduled(NO_GPU, created=9))
    assert known.reason == causes.ROLLOUT_WAITING_FOR_GPU
    assert "spec.engine.drainTimeout" in known.message


def test_a_replica_that_has_ended_holds_no_gpu() -> None:
    over = pods.pod(name="old", revision=OLD, phase="Failed", reason="NodeLost")
    assert cause(over, pods.unscheduled(NO_GPU)).reason == causes.INSUFFICIENT_GPU


def test_several_gpus_are_counted_in_words_that_fit() -> None:
    known = cause(pods.unscheduled(NO_GPU), deployment=pods.deployment(gpus=2))
    assert known.message.startswith("2 GPUs (nvidia.com/gpu) are asked for and no node has")


def test_of_several_resources_the_one_that_lacks_is_told() -> None:
    several = pods.deployment(gpus=1, limits={"amd.com/xdna": "1k"})
    said = "0/1 nodes are available: 1 Insufficient {}."
    gpu = cause(pods.unscheduled(said.format("nvidia.com/gpu")), deployment=several)
    other = cause(pods.unscheduled(said.format("amd.com/xdna")), deployment=several)
    assert gpu.message.startswith("1 GPU (nvidia.com/gpu) is asked for")
    assert other.message.startswith("1k GPUs (amd.com/xdna) are asked for")


def test_a_template_whose_engine_somebody_renamed_has_its_causes() -> None:
    renamed = pods.deployment()
    renamed["spec"]["template"]["spec"]["containers"][0]["name"] = "vllm"
    assert cause(pods.unscheduled(NO_GPU), deployment=renamed).reason == causes.UNSCHEDULABLE


# -- engines that had been ready ------------------------------------------------------------------


def was_ready(message: str) -> Object:
    """Return a pod whose engine served from second 30 on and ended at second 900."""
    unready = pods.condition("Ready", "False", since=901)
    last = pods.ended(message, finished=900)
    return pods.pod(pods.waiting("CrashLoopBackOff", last=last), conditions=(unready,))


def test_nothing_is_quoted_of_an_engine_that_had_been_ready() -> None:
    secret = "vllm serve: error: argument --x: the prompt was: my diagnosis is"
    known = cause(was_ready(secret))
    assert known.reason == causes.ENGINE_ENDED
    assert not known.lasting
    assert "prompt" not in known.message


def test_memory_that_ran_out_is_told_of_an_engine_that_had_been_ready_too() -> None:
    served = was_ready("")
    served["status"]["containerStatuses"][0]["lastState"]["terminated"]["reason"] = "OOMKilled"
    known = cause(served)
    assert (known.reason, known.lasting) == (causes.OUT_OF_MEMORY, False)


def test_an_engine_that_fails_at_its_next_start_is_one_that_has_not_been_ready() -> None:
    unready = pods.condition("Ready", "False", since=901)
    last = pods.ended("vllm serve: error: argument --x: bad", began=902, finished=950)
    again = pods.pod(pods.waiting("CrashLoopBackOff", last=last), conditions=(unready,))
    assert cause(again).reason == causes.BAD_ENGINE_ARGUMENT


# -- pods that only their events explain ----------------------------------------------------------


def warning(reason: str, message: str, *, last: float = 50) -> Object:
    return {
        "kind": "Event",
        "metadata": {"name": "e", "creationTimestamp": at(1)},
        "type": "Warning",
        "reason": reason,
        "message": message,
        "lastTimestamp": at(last),
    }


def test_volumes_and_network_have_some_seconds() -> None:
    known = found(pods.without_sandbox(), now=at(10))
    assert (known.ask, known.again_after) == (None, 5.0)


def test_the_events_of_a_pod_without_a_sandbox_are_asked_for_once() -> None:
    stuck = pods.without_sandbox()
    first = found(stuck, now=at(20))
    assert first.ask is stuck
    answered = found(stuck, now=at(20), warnings=[])
    assert (answered.ask, answered.cause) == (None, None)
    assert answered.again_after == first.again_after == 60.0


def test_the_events_of_a_pod_that_pulls_its_image_are_not_asked_for() -> None:
    pulling = pods.pod(pods.waiting("ContainerCreating"), phase="Pending")
    assert found(pulling, now=at(600)) == Diagnosis()


@pytest.mark.parametrize(
    ("event", "reason", "words"),
    [
        pytest.param(
            warning(
                "FailedMount", 'MountVolume.SetUp failed for volume "x" : configmap "no" not found'
            ),
            causes.CONFIGURATION_MISSING,
            'configmap "no" not found',
            id="no such ConfigMap",
        ),
        pytest.param(
            warning(
                "FailedMount",
                'MountVolume.SetUp failed for volume "x" : references non-existent secret key: k',
            ),
            causes.CONFIGURATION_MISSING,
            "references non-existent secret key: k",
            id="no such key",
        ),
        pytest.param(
            warning(
                "FailedMount",
                'MountVolume.SetUp failed for volume "config" : failed to sync configmap cache:'
                " timed out waiting for the condition",
            ),
            causes.VOLUME_FAILED,
            'volume "config" : failed to sync configmap cache: timed out',
            id="a ConfigMap that is late",
        ),
        pytest.param(
            warning(
                "FailedMount",
                'MountVolume.SetUp failed for volume "secret-store" : mount failed: exit status 32',
            ),
            causes.VOLUME_FAILED,
            'volume "secret-store" : mount failed: exit status 32',
            id="a volume that is called like a Secret",
        ),
        pytest.param(
            warning(
                "FailedAttachVolume",
                'Multi-Attach error for volume "pvc-0a1b2c3d-1111-2222-3333-0a1b2c3d4e5f" Volume is'
                " already used by pod(s) other-0",
            ),
            causes.VOLUME_FAILED,
            "Multi-Attach error",
            id="a volume of another node",
        ),
        pytest.param(
            warning(
                "FailedCreatePodSandBox",
                'Failed to create pod sandbox: plugin type="calico" failed (add): dial refused',
            ),
            causes.POD_START_FAILED,
            "network plugin",
            id="no network",
        ),
    ],
)
def test_an_event_tells_why_there_is_no_container(event: Object, reason: str, words: str) -> None:
    known = cause(pods.without_sandbox(), now=at(60), warnings=[event])
    assert known.reason == reason
    assert words in known.message


MULTI_ATTACH = (
    'Multi-Attach error for volume "pvc-0a1b2c3d-1111-2222-3333-0a1b2c3d4e5f" Volume is already'
    " exclusively attached to one node and can't be attached to another"
)
ONE_POD = (
    "0/2 nodes are available: 1 Insufficient cpu, 1 node has pod using PersistentVolumeClaim with"
    " the same name and ReadWriteOncePod access mode. no new claims to deallocate."
)


def replacing() -> Object:
    made = pods.deployment()
    made["spec"]["strategy"] = {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}
    return made


@pytest.mark.parametrize("waiting", [pods.unscheduled(ONE_POD), pods.without_sandbox()])
@pytest.mark.parametrize(
    ("before", "deployment", "remedy"),
    [
        ({}, pods.deployment(), "spec.rollout.strategy to Replace"),
        ({"deletionTimestamp": at(9)}, replacing(), "spec.engine.drainTimeout"),
        ({}, replacing(), "a claim that is ReadWriteMany"),
    ],
)
def test_a_volume_that_another_replica_has_is_nothing_to_look_at(
    waiting: Object, before: Object, deployment: Object, remedy: str
) -> None:
    old = pods.serving(name="old", revision=OLD)
    old["metadata"] |= before
    warnings = [
        warning("FailedMount", "Unable to attach or mount volumes: timed out waiting", last=3590),
        warning("FailedAttachVolume", MULTI_ATTACH),  # once, and never again
    ]
    known = cause(old, waiting, deployment=deployment, now=at(3600), warnings=warnings)
    assert known.reason == causes.VOLUME_FAILED
    assert remedy in known.message
    assert "describe pvc" not in known.message


def test_what_the_kubelet_no_longer_repeats_is_over() -> None:
    event = warning("FailedMount", 'configmap "no" not found', last=50)
    known = found(pods.without_sandbox(), now=at(400), warnings=[event])
    assert known.cause is None


def test_of_several_events_always_the_same_one_is_told() -> None:
    events = [warning("FailedMount", f'configmap "{name}" not found') for name in "ab"]
    stuck = pods.without_sandbox()
    one = cause(stuck, warnings=events)
    assert one == cause(stuck, warnings=events[::-1])


def test_events_of_another_kind_tell_nothing() -> None:
    event = warning("Unhealthy", "Startup probe failed: connection refused")
    assert found(pods.without_sandbox(), warnings=[event]).cause is None


# -- rollouts that take too long ------------------------------------------------------------------


def test_a_rollout_past_its_deadline_without_another_cause_is_late() -> None:
    late = pods.condition("Progressing", "False", reason="ProgressDeadlineExceeded")
    slow = pods.pod(pods.waiting("ContainerCreating"), phase="Pending")
    known = cause(slow, deployment=pods.deployment(conditions=[late]))
    assert known.reason == causes.STARTUP_TIMEOUT


def test_no_message_is_longer_than_a_few_lines() -> None:
    known = cause(pods.pod(pods.waiting("ErrImagePull", "x" * 5000)))
    assert len(known.message) < 700
