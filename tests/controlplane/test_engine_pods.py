"""The engine's pod: what it runs, reads, writes, asks for, and where."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from endpoint_operator.errors import InvalidObjectError
from helpers import golden
from helpers.rendering import (
    child,
    children_of_kind,
    deployment,
    engine,
    option,
    pod,
    variables,
)

Object = dict[str, Any]

HF = "hf://org/model"


def arguments(**spec: Any) -> list[str]:
    found: list[str] = engine(**spec)["args"]
    return found


def volume(name: str, **spec: Any) -> Object:
    (found,) = [each for each in pod(**spec)["volumes"] if each["name"] == name]
    return {key: value for key, value in found.items() if key != "name"}


def mounts(**spec: Any) -> dict[str, Object]:
    return {each["mountPath"]: each for each in engine(**spec)["volumeMounts"]}


def administered(**defaults: Any) -> Any:
    return replace(golden.INPUTS, defaults=replace(golden.DEFAULTS, **defaults))


# -- model ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("hf://org/model", "org/model"),
        ("file:///models/a", "/models/a"),
        ("pvc://claim/models/a/", "/mnt/model/models/a"),
        ("pvc://claim/", "/mnt/model"),
        ("s3://bucket/a/b", "s3://bucket/a/b"),
        ("gs://bucket/a", "gs://bucket/a"),
        ("oci://registry:5000/a/b:1", "/mnt/model"),
    ],
)
def test_a_source_is_what_vllm_can_load(source: str, expected: str) -> None:
    assert arguments(model={"source": source, "servedNames": ["m"]})[0] == expected


def test_a_claim_is_mounted_and_never_written() -> None:
    model = {"source": "pvc://weights/a"}
    assert volume("model", model=model) == {
        "persistentVolumeClaim": {"claimName": "weights", "readOnly": True}
    }
    assert mounts(model=model)["/mnt/model"]["readOnly"] is True


def test_an_image_is_a_volume_of_its_own() -> None:
    model = {"source": "oci://registry:5000/a/b:1"}
    assert volume("model", model=model) == {"image": {"reference": "registry:5000/a/b:1"}}
    assert mounts(model=model)["/mnt/model"]["name"] == "model"


@pytest.mark.parametrize(
    ("source", "config", "args", "expected"),
    [
        ("s3://bucket/m", {}, [], "runai_streamer"),
        ("gs://bucket/m", {}, [], "runai_streamer"),
        ("s3://bucket/m", {"load_format": "runai_streamer_sharded"}, [], None),
        (HF, {}, [], None),
    ],
)
def test_buckets_are_streamed_unless_the_user_says_how(
    source: str, config: Object, args: list[str], expected: str | None
) -> None:
    given = arguments(model={"source": source}, engine={"config": config, "args": args})
    assert option(given, "--load-format") == expected


def test_a_revision_and_a_token_are_for_the_repository() -> None:
    model = {"source": HF, "revision": "v2", "tokenSecretRef": {"name": "hf", "key": "t"}}
    assert option(arguments(model=model), "--revision") == "v2"
    found = variables(engine(model=model))["HF_TOKEN"]
    assert found == {"secretKeyRef": {"name": "hf", "key": "t"}}
    assert "--revision" not in arguments()
    assert "HF_TOKEN" not in variables(engine())


def test_every_engine_serves_the_endpoints_own_name_last() -> None:
    def served(**model: Any) -> list[str]:
        given = arguments(model={"source": HF, **model})
        first = given.index("--served-model-name") + 1
        return given[first : given.index("--shutdown-timeout")]

    assert served() == ["org/model", "qwen"]
    assert served(servedNames=["a", "b"]) == ["a", "b", "qwen"]
    assert served(servedNames=["qwen", "b"]) == ["qwen", "b"]


# -- adapters ---------------------------------------------------------------------------------


def modules(model: Object) -> list[Object]:
    given = arguments(model=model)
    first = given.index("--lora-modules") + 1
    return [json.loads(text) for text in given[first : given.index("--shutdown-timeout")]]


ADAPTERS = [
    {"name": "sql", "source": "hf://org/sql-lora"},
    {"name": "c", "source": "pvc://team.adapters/c=1"},
    {"name": "b", "source": "pvc://weights/b"},
    {"name": "a", "source": "file:///adapters/a"},
]


def test_adapters_are_modules_by_name_in_a_stable_order() -> None:
    model = {"source": "pvc://weights/m", "adapters": ADAPTERS}
    assert modules(model) == [
        {"name": "a", "path": "/adapters/a"},
        {"name": "b", "path": "/mnt/model/b"},
        {"name": "c", "path": "/mnt/adapters/team.adapters/c=1"},
        {"name": "sql", "path": "org/sql-lora"},
    ]
    assert "--enable-lora" in arguments(model=model)
    assert arguments(model=model) == arguments(model=model | {"adapters": ADAPTERS[::-1]})
    assert "--enable-lora" not in arguments()


def test_each_claim_is_mounted_once_under_a_name_that_a_volume_may_have() -> None:
    more = [*ADAPTERS, {"name": "d", "source": "pvc://team.adapters/d"}]
    found = pod(model={"source": "pvc://weights/m", "adapters": more})["volumes"]
    claims = {
        each["persistentVolumeClaim"]["claimName"]: each["name"]
        for each in found
        if "persistentVolumeClaim" in each
    }
    assert claims["weights"] == "model"
    assert set(claims) == {"weights", "team.adapters"}
    assert claims["team.adapters"].replace("-", "").isalnum()
    assert len({each["name"] for each in found}) == len(found)


# -- files ------------------------------------------------------------------------------------


def test_a_chat_template_is_a_file_whether_inline_or_referred_to() -> None:
    inline = {"source": HF, "chatTemplate": {"inline": "{{ messages }}\n"}}
    files = child("ConfigMap", model=inline)["data"]
    assert files["chat-template.jinja"] == "{{ messages }}\n"
    path = option(arguments(model=inline), "--chat-template")
    assert path == "/etc/vllm/chat-template.jinja"

    reference = {"configMapRef": {"name": "templates", "key": "k"}}
    read = replace(golden.INPUTS, chat_template="{{ referred }}")
    found = child("ConfigMap", read, model={"source": HF, "chatTemplate": reference})
    assert found["data"]["chat-template.jinja"] == "{{ referred }}"
    assert "--chat-template" not in arguments()


def test_a_private_authority_is_trusted_by_every_library() -> None:
    trusting = administered(ca_bundle="-----BEGIN CERTIFICATE-----\n")
    assert child("ConfigMap", trusting)["data"]["ca.crt"].startswith("-----BEGIN")
    found = variables(engine(trusting))
    paths = {
        found[name]
        for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE")
    }
    assert paths == {"/etc/vllm/ca.crt"}
    assert "SSL_CERT_FILE" not in variables(engine(administered(ca_bundle="\n")))


# -- cache ------------------------------------------------------------------------------------


def cached(**cache: Any) -> Object:
    return {"source": HF, "cache": cache}


def test_without_a_claim_the_cache_goes_with_the_pod() -> None:
    assert volume("cache") == {"emptyDir": {}}
    assert children_of_kind("PersistentVolumeClaim") == []
    assert "fsGroup" not in pod()["securityContext"]


def test_a_claim_of_its_own_is_made_as_asked_for() -> None:
    model = cached(size="51200Mi", storageClassName="fast", accessMode="ReadWriteMany")
    claim = child("PersistentVolumeClaim", model=model)
    assert claim["metadata"]["name"] == "qwen-cache"
    assert claim["spec"] == {
        "accessModes": ["ReadWriteMany"],
        "storageClassName": "fast",
        "resources": {"requests": {"storage": "50Gi"}},
    }
    assert volume("cache", model=model) == {"persistentVolumeClaim": {"claimName": "qwen-cache"}}
    assert "storageClassName" not in child("PersistentVolumeClaim", model=cached(size="1"))["spec"]


def test_a_given_claim_is_used_and_nothing_made() -> None:
    model = cached(claimName="shared")
    assert volume("cache", model=model) == {"persistentVolumeClaim": {"claimName": "shared"}}
    assert children_of_kind("PersistentVolumeClaim", model=model) == []


@pytest.mark.parametrize(("on_delete", "owners"), [("Retain", 0), ("Delete", 1)])
def test_a_claim_is_deleted_with_the_endpoint_only_if_the_user_says_so(
    on_delete: str, owners: int
) -> None:
    claim = child("PersistentVolumeClaim", model=cached(size="1Gi", onDelete=on_delete))
    assert len(claim["metadata"].get("ownerReferences", [])) == owners
    assert claim["metadata"]["labels"]


def test_a_claims_files_are_given_to_the_engine_but_not_one_by_one_at_each_start() -> None:
    context = pod(model=cached(size="1Gi"))["securityContext"]
    assert context["fsGroup"] == context["runAsUser"]
    assert context["fsGroupChangePolicy"] == "OnRootMismatch"


def test_every_cache_is_on_a_writable_volume() -> None:
    writable = [path for path, mount in mounts().items() if not mount.get("readOnly")]
    paths = [value for value in variables(engine()).values() if str(value).startswith("/")]
    assert paths
    assert [path for path in paths if not any(path.startswith(each) for each in writable)] == []


# -- arguments and environment ----------------------------------------------------------------


def test_the_users_arguments_come_last_and_are_swallowed_by_none_of_ours() -> None:
    given = arguments(
        engine={"args": ["--seed", "1"], "responseRole": "model"},
        model={"source": HF, "adapters": ADAPTERS},
    )
    assert given[-4:-2] == ["--shutdown-timeout", "600"]
    assert given[-2:] == ["--seed", "1"]
    assert option(given, "--response-role") == "model"


@pytest.mark.parametrize(
    ("gpus", "engine_spec", "expected"),
    [
        (0, {}, None),
        (1, {}, None),
        (4, {}, "4"),
        (4, {"config": {"tensor-parallel-size": 4}}, None),
        (4, {"config": {"pipeline_parallel_size": 4}}, None),
        (4, {"config": {"data-parallel-size": 4}}, None),
        (4, {"args": ["--pipeline-parallel-size=4"]}, None),
        (4, {"args": ["--tensor_parallel_size", "4"]}, None),
    ],
)
def test_several_gpus_are_used_in_parallel_unless_the_user_says_how(
    gpus: int, engine_spec: Object, expected: str | None
) -> None:
    ours = arguments(gpu={"count": gpus}, engine=engine_spec)
    theirs = engine_spec.get("args", [])
    assert option(ours[: len(ours) - len(theirs)], "--tensor-parallel-size") == expected


def test_a_variable_of_the_user_wins_and_may_refer_to_ours() -> None:
    given = [{"name": "HF_HOME", "value": "/mine"}, {"name": "COPY", "value": "$(HOME)/x"}]
    found = engine(engine={"env": given})["env"]
    assert found[-2:] == given
    assert [each["name"] for each in found].count("HF_HOME") == 1


def test_variables_come_from_where_the_user_says() -> None:
    field = {"fieldRef": {"fieldPath": "spec.nodeName"}}
    sources = [{"prefix": "A_", "secretRef": {"name": "s", "optional": True}}]
    found = engine(engine={"env": [{"name": "NODE", "valueFrom": field}], "envFrom": sources})
    assert variables(found)["NODE"] == field
    assert found["envFrom"] == sources
    assert "envFrom" not in engine()


# -- resources and placement ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("resource", "tolerated"),
    [
        ("nvidia.com/gpu", ["nvidia.com/gpu"]),
        ("nvidia.com/mig-1g.10gb", ["nvidia.com/mig-1g.10gb", "nvidia.com/gpu"]),
        ("amd.com/gpu", ["amd.com/gpu"]),
        ("gpu.intel.com/xe", ["gpu.intel.com/xe"]),
        ("example.com/npu", ["example.com/npu"]),
    ],
)
def test_gpus_of_any_vendor_are_requested_limited_and_tolerated(
    resource: str, tolerated: list[str]
) -> None:
    found = engine(gpu={"count": 2, "resource": resource})["resources"]
    assert found["requests"][resource] == found["limits"][resource] == "2"
    tolerations = pod(gpu={"count": 2, "resource": resource})["tolerations"]
    assert [each["key"] for each in tolerations] == tolerated
    assert {each["operator"] for each in tolerations} == {"Exists"}


def test_without_gpus_nothing_is_tolerated() -> None:
    assert "tolerations" not in pod(gpu={"count": 0})
    assert engine(gpu={"count": 0})["resources"] == {"requests": {"memory": "1Gi"}}


@pytest.mark.parametrize(
    ("resource", "label"),
    [
        ("nvidia.com/gpu", "nvidia.com/gpu.product"),
        ("nvidia.com/mig-1g.10gb", "nvidia.com/gpu.product"),
        ("amd.com/gpu", "amd.com/gpu.product-name"),
        ("gpu.intel.com/i915", "gpu.intel.com/product"),
    ],
)
def test_products_are_looked_for_by_the_vendors_label(resource: str, label: str) -> None:
    gpu = {"resource": resource, "products": ["B", "A"]}
    node = pod(gpu=gpu)["affinity"]["nodeAffinity"]
    (term,) = node["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert term == {"matchExpressions": [{"key": label, "operator": "In", "values": ["A", "B"]}]}
    assert "affinity" not in pod()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"requests": {"memory": "1Gi"}}),
        ({"requests": {"memory": "7Gi"}}, {"requests": {"memory": "8Gi"}}),
        ({"limits": {"memory": "7Gi"}}, {"limits": {"memory": "8Gi"}}),
        (
            {"requests": {"cpu": "0.5", "memory": "512Mi"}, "limits": {"memory": "1024Mi"}},
            {"requests": {"cpu": "500m", "memory": "1536Mi"}, "limits": {"memory": "2Gi"}},
        ),
    ],
)
def test_shared_memory_is_counted_as_memory(given: Object, expected: Object) -> None:
    assert engine(gpu={"count": 0}, resources=given)["resources"] == expected


def test_shared_memory_grows_with_the_gpus() -> None:
    sizes = {
        count: volume("shm", gpu={"count": count})["emptyDir"]["sizeLimit"] for count in (0, 1, 8)
    }
    assert sizes == {0: "1Gi", 1: "1Gi", 8: "8Gi"}


def test_an_administrator_says_where_engines_run_and_what_pulls_their_images() -> None:
    found = pod(administered(pull_secrets=("a", "b"), node_selector={"pool": "gpu"}))
    assert found["imagePullSecrets"] == [{"name": "a"}, {"name": "b"}]
    assert found["nodeSelector"] == {"pool": "gpu"}
    assert not {"imagePullSecrets", "nodeSelector"} & set(pod())


# -- life -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, {"maxSurge": 1, "maxUnavailable": 0}),
        ({"rollout": {"strategy": "Replace"}}, {"maxSurge": 0, "maxUnavailable": 1}),
        ({"model": cached(size="1Gi")}, {"maxSurge": 0, "maxUnavailable": 1}),
        (
            {"model": cached(size="1Gi"), "rollout": {"strategy": "Surge"}},
            {"maxSurge": 1, "maxUnavailable": 0},
        ),
    ],
)
def test_replicas_are_replaced_as_the_cache_allows_and_the_user_says(
    spec: Object, expected: Object
) -> None:
    assert deployment(**spec)["spec"]["strategy"]["rollingUpdate"] == expected


def test_nodes_are_drained_one_engine_at_a_time_but_never_held_up_by_a_broken_one() -> None:
    spec = child("PodDisruptionBudget", replicas=2)["spec"]
    assert spec["maxUnavailable"] == 1
    assert spec["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
    assert children_of_kind("PodDisruptionBudget", replicas=1) == []


def test_stopping_has_time_for_prestop_drain_and_exit() -> None:
    rendered = pod(engine={"drainTimeout": "10m"})
    assert option(arguments(engine={"drainTimeout": "10m"}), "--shutdown-timeout") == "600"
    assert rendered["terminationGracePeriodSeconds"] == 5 + 600 + 30


def test_an_engine_that_hangs_is_not_given_the_time_to_drain() -> None:
    found = engine(engine={"drainTimeout": "1h"})
    probes = [found[name] for name in ("startupProbe", "livenessProbe")]
    assert [probe["terminationGracePeriodSeconds"] for probe in probes] == [30, 30]
    assert "terminationGracePeriodSeconds" not in found["readinessProbe"]


def test_the_startup_probe_gives_up_after_the_startup_timeout() -> None:
    probe = engine(startupTimeout="1m32s")["startupProbe"]
    assert probe["periodSeconds"] * (probe["failureThreshold"] - 1) < 92
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 92
    assert deployment(startupTimeout="1m32s")["spec"]["progressDeadlineSeconds"] == 92 + 600


def test_the_pod_is_restricted() -> None:
    rendered = pod()
    assert rendered["securityContext"]["runAsNonRoot"] is True
    assert rendered["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert rendered["containers"][0]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert rendered["automountServiceAccountToken"] is False


# -- the user's pod template ------------------------------------------------------------------


def test_a_pod_template_is_merged_by_names_and_our_labels_stay() -> None:
    patch = {
        "metadata": {"labels": {"team": "a", "app.kubernetes.io/part-of": "b"}},
        "spec": {
            "runtimeClassName": "nvidia",
            "containers": [{"name": "engine", "env": [{"name": "HOME", "value": "/h"}]}],
        },
    }
    template = deployment(podTemplate=patch)["spec"]["template"]
    assert template["metadata"]["labels"]["team"] == "a"
    assert template["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "vllm-endpoints"
    assert template["spec"]["runtimeClassName"] == "nvidia"
    assert variables(engine(podTemplate=patch))["HOME"] == "/h"
    assert engine(podTemplate=patch)["args"] == engine()["args"]


def test_a_part_of_an_image_can_be_the_model() -> None:
    mount = {"name": "model", "mountPath": "/mnt/model", "subPath": "weights"}
    patch = {"spec": {"containers": [{"name": "engine", "volumeMounts": [mount]}]}}
    found = mounts(model={"source": "oci://image:1"}, podTemplate=patch)["/mnt/model"]
    assert found == mount | {"readOnly": True}


def test_a_pod_template_that_can_not_be_merged_is_the_users_fault() -> None:
    patch: Object = {"spec": {"securityContext": {"$setElementOrder/x": []}}}
    at_fault = r"spec\.podTemplate\.spec\.securityContext\.\$setElementOrder/x: .*remove it"
    with pytest.raises(InvalidObjectError, match=at_fault):
        deployment(podTemplate=patch)


# -- network ----------------------------------------------------------------------------------


def test_only_the_gateway_and_the_scrapers_reach_the_engine() -> None:
    scraper = {"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}
    (rule,) = child("NetworkPolicy", administered(scrapers=(scraper,)))["spec"]["ingress"]
    gateway, other = rule["from"]
    assert gateway["podSelector"]["matchLabels"] == golden.DEFAULTS.gateway_labels
    assert gateway["namespaceSelector"]["matchLabels"] == {
        "kubernetes.io/metadata.name": "vllm-system"
    }
    assert other == scraper
    assert rule["ports"] == [{"protocol": "TCP", "port": 8000}]


def test_engines_reach_everything_but_link_local_addresses() -> None:
    anywhere, names_ = child("NetworkPolicy")["spec"]["egress"]
    blocks = [peer["ipBlock"] for peer in anywhere["to"] if "ipBlock" in peer]
    assert {block["cidr"]: block["except"] for block in blocks} == {
        "0.0.0.0/0": ["169.254.0.0/16"],
        "::/0": ["fe80::/10", "fd00:ec2::254/128"],
    }
    assert "to" not in names_
    assert {(port["protocol"], port["port"]) for port in names_["ports"]} == {
        ("UDP", 53),
        ("TCP", 53),
    }


def test_an_administrator_may_do_without_policies() -> None:
    assert children_of_kind("NetworkPolicy", administered(network_policy=False)) == []
